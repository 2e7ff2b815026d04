// A task app in plain JavaScript: Node's own modules and nothing else.
//
//     ENVIRONMENT_API_KEY=any-secret PORT=8004 node examples/task_apps/sentiment.mjs
//
// The app renders its own prompt and calls the model at the URL that each request names; there an optimizer exchanges
// the prompt. A failed model call is answered with status 502, never with a reward of 0.

import { createServer } from "node:http";
import { createHash, timingSafeEqual } from "node:crypto";

const PORT = Number(process.env.PORT ?? 8004);
const KEY = process.env.ENVIRONMENT_API_KEY ?? "";
const MAX_BODY = 1 << 20;
const SYSTEM = "Say how the reviewer feels.";
const LABELS = ["negative", "positive"];
const REVIEWS = [
  ["The soup was cold and nobody cared.", "negative"],
  ["I would walk ten miles for that bread.", "positive"],
  ["Three calls, three promises, no parcel.", "negative"],
  ["It does what it says, and quietly.", "positive"],
  ["The second half put me to sleep.", "negative"],
  ["My daughter has asked for it every night since.", "positive"],
  ["It broke on the day the warranty ended.", "negative"],
  ["They remembered my name, and how I take my tea.", "positive"],
  ["Bring earplugs, the walls are paper.", "negative"],
  ["I came for an hour and stayed until they closed.", "positive"],
  ["The map is wrong in more places than it is right.", "negative"],
  ["Half the price of my old one and twice as good.", "positive"],
];

class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

const hash = (text) => createHash("sha256").update(text).digest();

function allowed(headers) {
  const bearer = (headers.authorization ?? "").match(/^Bearer (.+)$/i)?.[1];
  const given = [headers["x-api-key"], ...(headers["x-api-keys"] ?? "").split(","), bearer];
  return KEY !== "" && given.some((key) => key && timingSafeEqual(hash(key.trim()), hash(KEY)));
}

async function bodyOf(request) {
  let text = "";
  for await (const piece of request) {
    text += piece;
    if (text.length > MAX_BODY) throw new Problem(413, "the body is too long");
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new Problem(422, "the body is no JSON");
  }
}

async function ask(policy, messages) {
  const { inference_url: address, model = "default", temperature = 0, max_completion_tokens = 16 } = policy;
  const url = new URL(address); // a query stays behind the path
  if (!url.pathname.endsWith("/chat/completions")) url.pathname = url.pathname.replace(/\/$/, "") + "/chat/completions";
  const response = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${policy.api_key ?? "none"}` },
    body: JSON.stringify({ model, temperature, max_completion_tokens, messages }),
    signal: AbortSignal.timeout(60_000),
  }).catch((error) => {
    throw new Problem(502, `no model at the inference URL: ${error.message}`);
  });
  if (!response.ok) throw new Problem(502, `the model call failed with status ${response.status}`);
  const answer = await response.json();
  return answer.choices?.[0]?.message?.content ?? "";
}

async function rollout(body) {
  const policy = body.policy?.config ?? {};
  if (!URL.canParse(policy.inference_url ?? "")) throw new Problem(422, "policy.config.inference_url must be a URL");
  const seed = body.env?.seed ?? 0;
  const [review, label] = REVIEWS[((seed % REVIEWS.length) + REVIEWS.length) % REVIEWS.length];
  const said = await ask(policy, [
    { role: "system", content: SYSTEM },
    { role: "user", content: `Review: ${review}` },
  ]);
  const reward = said.trim().toLowerCase() === label ? 1 : 0;
  return {
    run_id: body.run_id ?? body.trace_correlation_id,
    trace_correlation_id: body.trace_correlation_id,
    reward_info: { outcome_reward: reward, details: { feedback: `Expected ${label}, got ${JSON.stringify(said)}.` } },
    metrics: { mean_return: reward, episode_returns: [reward], num_steps: 1 },
    trajectories: [
      {
        env_id: "sentiment",
        policy_id: "policy",
        steps: [{ obs: { review }, reward, done: true }],
        length: 1,
        inference_url: policy.inference_url,
      },
    ],
  };
}

const taskset = { id: "sentiment", description: "How a reviewer feels.", size: REVIEWS.length, labels: LABELS };
const routes = {
  "GET /health": () => ({ status: "ok", healthy: true }),
  "GET /info": () => ({ service: { task: { id: "sentiment" }, version: "1" }, dataset: taskset }),
  "GET /task_info": () => ({ taskset, task_app_id: "sentiment", dataset_size: REVIEWS.length, labels: LABELS }),
  "POST /rollout": async (request) => rollout(await bodyOf(request)),
};

const server = createServer(async (request, response) => {
  let status = 200;
  let answer;
  try {
    const name = `${request.method} ${request.url.split("?")[0]}`;
    if (!routes[name]) throw new Problem(404, "no such route");
    if (name !== "GET /health" && !allowed(request.headers)) throw new Problem(401, "the environment key is wrong");
    answer = await routes[name](request);
  } catch (error) {
    status = error.status ?? 500;
    answer = { detail: error.status ? error.message : "the app failed" };
    if (!error.status) console.error(error);
  }
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(answer));
});

server.listen(PORT, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
