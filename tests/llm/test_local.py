"""The embedded model itself: what it answers is checked only as far as it is certain."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from rollouts.dtypes import Choices, Endpoint, JsonSchema, Message, Request, Response
from rollouts.errors import CallTimeout, ConfigError, InvalidRequest
from rollouts.llm.local import LocalProvider, choices_grammar, request_body
from rollouts.llm.local_engine import threads

ENDPOINT = Endpoint.parse("local").with_sampling(max_tokens=12)
SYSTEM = Message("system", "You are a helpful clerk who answers every question in a short and friendly sentence.")


def request(text: str, *shared: Message, endpoint: Endpoint = ENDPOINT, **fields: Any) -> Request:
    return Request(endpoint=endpoint, messages=(SYSTEM, *shared, Message("user", text)), **fields)


def sampled(**settings: Any) -> Endpoint:
    return ENDPOINT.with_sampling(**settings)


# Bodies: no model needed.


def test_the_body_says_what_the_endpoint_says() -> None:
    endpoint = Endpoint.parse("local", extra={"top_k": 5}).with_sampling(
        temperature=0.5, top_p=0.9, seed=7, stop=("\n",), max_tokens=3
    )
    body = request_body(request("Hi", endpoint=endpoint, repeat=2))
    expected = {"temperature": 0.5, "top_p": 0.9, "seed": 9, "stop": ["\n"], "max_tokens": 3, "top_k": 5}
    assert expected.items() <= body.items()
    assert body["messages"][-1] == {"role": "user", "content": "Hi"}
    assert "seed" not in request_body(request("Hi"))


def test_options_are_quoted_in_the_grammar() -> None:
    assert choices_grammar(("a", 'say "b\\c"\n')) == 'root ::= "a" | "say \\"b\\\\c\\"\\U0000000A"'


@pytest.mark.parametrize(
    "refused",
    [
        request("Hi", response_format=Choices(options=())),
        Request(endpoint=ENDPOINT, messages=()),
    ],
)
def test_what_the_model_cannot_do_is_refused(refused: Request) -> None:
    with pytest.raises(InvalidRequest):
        request_body(refused)


def test_threads_are_at_least_one() -> None:
    assert 1 <= threads() <= 8


# The model.


@pytest_asyncio.fixture
async def provider() -> AsyncIterator[LocalProvider]:
    pytest.importorskip("xllamacpp")
    try:
        provider = LocalProvider(ENDPOINT)
    except ConfigError as error:
        pytest.skip(str(error))
    yield provider
    await provider.close()


async def ask(provider: LocalProvider, text: str, **fields: Any) -> Response:
    return await provider.complete(request(text, **fields))


@pytest.mark.model
async def test_it_answers_and_counts(provider: LocalProvider) -> None:
    capital = Message("user", "Name the capital of France.")
    answer = await provider.complete(Request(endpoint=sampled(max_tokens=24), messages=(capital,)))
    assert answer.text == "The capital of France is Paris."
    assert answer.finish_reason == "stop"
    assert answer.cost_micros == 0
    assert answer.latency_s > 0
    assert not answer.cached
    assert 0 < answer.usage.completion_tokens <= 24


@pytest.mark.model
async def test_a_shared_prefix_is_computed_once(provider: LocalProvider) -> None:
    await ask(provider, "What is the capital of Spain?")
    other = await ask(provider, "Who was Newton?")
    assert other.usage.cached_tokens >= provider.count_tokens(SYSTEM.content)


@pytest.mark.model
async def test_the_same_request_has_the_same_answer_whatever_came_before(provider: LocalProvider) -> None:
    long = sampled(max_tokens=24)
    texts = ["Why is the sky blue?", "Why is the sky dark at night?", "Write a line about ships.", "Who was Newton?"]
    other = Message("system", "You are a pirate. Speak like one, whatever the question may be about.")
    first = [await ask(provider, text, endpoint=long) for text in texts]
    for text in texts[:2]:
        await provider.complete(Request(endpoint=long, messages=(other, Message("user", text))))
    at_once = await asyncio.gather(*(ask(provider, text, endpoint=long) for text in reversed(texts)))
    twice = [await ask(provider, text, endpoint=long) for text in texts for _ in range(2)]
    assert [answer.text for answer in first] == [answer.text for answer in reversed(at_once)]
    assert [answer.text for answer in twice] == [answer.text for answer in first for _ in range(2)]


@pytest.mark.model
async def test_seeds(provider: LocalProvider) -> None:
    hot = sampled(temperature=1.5, seed=0, max_tokens=16)
    texts = [(await ask(provider, "Tell me a story.", endpoint=hot)).text for _ in range(2)]
    repeated = await ask(provider, "Tell me a story.", endpoint=hot, repeat=1)
    assert texts[0] == texts[1] != repeated.text


@pytest.mark.model
async def test_stop_and_length(provider: LocalProvider) -> None:
    capital = (Message("user", "Name the capital of France."),)
    stopped = await provider.complete(Request(endpoint=sampled(stop=(" Paris",)), messages=capital))
    assert (stopped.text, stopped.finish_reason) == ("The capital of France is", "stop")
    cut = await provider.complete(Request(endpoint=sampled(max_tokens=2), messages=capital))
    assert cut.finish_reason == "length"
    assert cut.usage.completion_tokens == 2


@pytest.mark.model
@pytest.mark.parametrize("options", [("yes", "no"), ('a "quoted" one', "back\\slash"), ("naïve 🚢", "two\nlines")])
async def test_choices(provider: LocalProvider, options: tuple[str, ...]) -> None:
    answer = await ask(provider, "Tell me a joke.", response_format=Choices(options=options))
    assert answer.text in options
    assert answer.finish_reason == "stop"


@pytest.mark.model
async def test_json_schema(provider: LocalProvider) -> None:
    schema = {
        "type": "object",
        "properties": {"legs": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["legs"],
        "additionalProperties": False,
    }
    answer = await ask(
        provider,
        "How many legs has a dog?",
        endpoint=sampled(max_tokens=40),
        response_format=JsonSchema(name="legs", schema=schema),
    )
    assert set(json.loads(answer.text)) == {"legs"}


@pytest.mark.model
async def test_a_schema_that_is_none_is_refused(provider: LocalProvider) -> None:
    with pytest.raises(InvalidRequest, match="objct"):
        await ask(provider, "Hi", response_format=JsonSchema(name="x", schema={"type": "objct"}))


@pytest.mark.model
async def test_a_prompt_that_does_not_fit_is_refused_with_its_size(provider: LocalProvider) -> None:
    with pytest.raises(InvalidRequest, match=r"\d+ tokens and the model's limit is 8192"):
        await ask(provider, "one two three " * 4000)


@pytest.mark.model
async def test_cancelling_stops_the_model(provider: LocalProvider) -> None:
    await ask(provider, "Hi")
    endless = Endpoint.parse("local", extra={"ignore_eos": True}).with_sampling(max_tokens=8000)
    running = asyncio.create_task(ask(provider, "Tell me everything.", endpoint=endless))
    waiting = asyncio.create_task(ask(provider, "Tell me more.", endpoint=endless))
    await asyncio.sleep(0.05)
    running.cancel()
    waiting.cancel()
    outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert (await asyncio.wait_for(ask(provider, "Hi"), timeout=20)).text


@pytest.mark.model
async def test_the_time_limit(provider: LocalProvider) -> None:
    endless = Endpoint.parse("local", timeout_s=0.05, extra={"ignore_eos": True}).with_sampling(max_tokens=8000)
    with pytest.raises(CallTimeout):
        await ask(provider, "Tell me everything.", endpoint=endless)


@pytest.mark.model
async def test_the_loop_is_never_blocked(provider: LocalProvider) -> None:
    await ask(provider, "Hi")
    call = asyncio.create_task(ask(provider, "Tell me a story.", endpoint=sampled(max_tokens=40)))
    ticks = 0
    while not call.done():
        await asyncio.sleep(0.002)
        ticks += 1
    assert ticks > 5


@pytest.mark.model
@pytest.mark.parametrize("text", ["", "Hi", " leading\n\n space ", "naïve 🚢 " * 9, "123456 <|im_end|> x" * 3])
@pytest.mark.parametrize("demos", [0, 1, 4])
async def test_the_worst_case_is_close_and_never_too_small(provider: LocalProvider, text: str, demos: int) -> None:
    shared = [Message("user", f"\nQuestion {text}"), Message("assistant", " yes ")] * demos
    asked = request(text, *shared, endpoint=sampled(max_tokens=1))
    bound = provider.worst_case(asked)
    used = (await provider.complete(asked)).usage.total_tokens
    assert used <= bound.tokens <= used + 40 + 4 * len(shared)
    assert (bound.micros, bound.calls) == (0, 1)


@pytest.mark.model
async def test_tokens_are_counted(provider: LocalProvider) -> None:
    assert provider.count_tokens("") == 0
    assert provider.count_tokens("Hello world") == 2


@pytest.mark.model
async def test_providers_share_the_model(provider: LocalProvider) -> None:
    other = LocalProvider(ENDPOINT)
    assert (await ask(other, "Hi")).text == (await ask(provider, "Hi")).text
    await other.close()
    await other.close()
    assert (await ask(provider, "Hi")).text


@pytest.mark.model
def test_a_broken_file_is_a_config_error(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    weights = tmp_path / "broken.gguf"
    weights.write_bytes(b"GGUF and nothing else")

    async def run() -> None:
        provider = LocalProvider(Endpoint(provider="local", model=str(weights)))
        try:
            with pytest.raises(ConfigError, match=r"broken\.gguf"):
                await provider.complete(request("Hi"))
        finally:
            await provider.close()

    asyncio.run(run())


QUIET = """
import asyncio
from rollouts.dtypes import Endpoint, Message, Request
from rollouts.llm.local import LocalProvider
endpoint = Endpoint.parse("local").with_sampling(max_tokens=500)
async def main():
    provider = LocalProvider(endpoint)
    call = provider.complete(Request(endpoint=endpoint, messages=(Message("user", "Tell me a story."),)))
    try:
        await asyncio.wait_for(call, 1.0)
    except TimeoutError:
        pass
asyncio.run(main())
"""


@pytest.mark.model
async def test_nothing_is_printed_and_an_open_model_does_not_hold_up_the_exit(provider: LocalProvider) -> None:
    done = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", QUIET], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
