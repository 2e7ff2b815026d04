// Makes the calls of a task app with OpenAI's package for Node, and prints what it was told as JSON.
const { OpenAI } = require("openai");

const [url, asking] = process.argv.slice(2);
const { messages, tool, format } = JSON.parse(asking);
const chat = new OpenAI({ baseURL: url, apiKey: "theirs" }).chat.completions;
const called = (call) => [call.function.name, JSON.parse(call.function.arguments)];

async function main() {
  const plain = await chat.create({ model: "x", messages });
  let streamed = "";
  for await (const chunk of await chat.create({ model: "x", messages, stream: true })) {
    streamed += chunk.choices[0].delta.content ?? "";
  }
  const tools = { model: "x", messages, tools: [tool], tool_choice: "required" };
  const withTool = await chat.create(tools);
  const last = await chat.stream(tools).finalChatCompletion();
  const formatted = await chat.create({ model: "x", messages, response_format: format });
  return {
    plain: plain.choices[0].message.content,
    streamed,
    tool: called(withTool.choices[0].message.tool_calls[0]),
    streamedTool: called(last.choices[0].message.tool_calls[0]),
    format: JSON.parse(formatted.choices[0].message.content),
  };
}

main()
  .catch((error) => ({ status: error.status, code: error.code }))
  .then((said) => console.log(JSON.stringify(said)));
