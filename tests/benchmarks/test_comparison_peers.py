"""The peers of the comparison, against a model server of this process. Skipped where they are not installed:
`pip install -r benchmarks/mipro_comparison/requirements.txt`."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import Any

import pytest
from benchmarks.mipro_comparison.outcome import Found, Row, score
from benchmarks.mipro_comparison.scripted import answer, uses_up
from benchmarks.mipro_comparison.tasks import Data, Sizes, Task

from rollouts.dtypes import FewShotExample, PromptTemplate
from rollouts.dtypes.prompts import fill, render

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LABELS = ("apples", "pears", "plums")
POOL = tuple(f"Instruction number {i} says which fruit it is." for i in range(40))
TASK = Task(
    name="fruit",
    input="query",
    instruction="Name the fruit.",
    user="Query: {query}\nFruit:",
    answer="fruit",
    labels=LABELS,
    demos=6,
    max_tokens=8,
    sizes=Sizes(train=24, val=60, test=20),
)


def rows(count: int, start: int) -> tuple[Row, ...]:
    return tuple(
        {"id": str(i), "query": f"basket {i} of {LABELS[i % 3]}", "label": LABELS[i % 3]}
        for i in range(start, start + count)
    )


DATA = Data(train=rows(24, 0), val=rows(60, 100))
TEST = rows(20, 1000)


class Server:
    """A model that answers by `say(messages)`, and the scripted proposer; counts by (phase, model)."""

    def __init__(self, url: str) -> None:
        self.url, self.given = url, 0
        self.counts: Counter[tuple[str, str]] = Counter()

    def base(self, phase: str) -> str:
        return f"{self.url}/{phase}/v1"


@contextmanager
def serving(say: Callable[[list[Any]], str]) -> Iterator[Server]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            messages, model = body["messages"], body["model"]
            with lock:
                server.counts[self.path.split("/")[1], model] += 1
                if model == "proposer":
                    text = answer(messages, POOL, "run", server.given)
                    server.given += uses_up(messages)
            if model == "task":
                text = say(messages)
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
            usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
            reply = {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice]}
            sent = json.dumps({**reply, "usage": usage}).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


def often_right(messages: list[Any]) -> str:
    """Right on most rows, by what is asked and by nothing else; in field markers where they are asked for."""
    asked = messages[-1]["content"]
    label = next(label for label in LABELS if label in asked)
    lucky = blake2b(json.dumps(messages).encode(), digest_size=1).digest()[0] < 180
    said = label if lucky else "none"
    return f"[[ ## fruit ## ]]\n{said}\n\n[[ ## completed ## ]]" if "[[ ##" in asked else said


def check_test(found: Found, server: Server) -> list[str]:
    """The test phase asks once a row, at its own address, with what `prompt` shows."""
    before = Counter(server.counts)
    said = list(found.answers(TEST, server.base("test")))
    assert server.counts - before == Counter({("test", "task"): len(TEST)})
    assert len(said) == len(TEST)
    messages = found.prompt(TEST[0])
    assert messages[0]["role"] == "system"
    assert TEST[0]["query"] in messages[-1]["content"]
    expected = often_right([dict(message) for message in messages])
    assert said[0] in expected
    return said


@pytest.fixture(scope="module")
def mipro() -> Any:
    pytest.importorskip("dspy", reason="dspy is not installed")
    from benchmarks.mipro_comparison import dspy_mipro

    return dspy_mipro


@pytest.mark.parametrize("settings", ["equal", "plain"])
def test_mipro_searches_within_the_cap(mipro: Any, settings: str) -> None:
    with serving(often_right) as server:
        found = mipro.search(server.base("search"), TASK, DATA, cap=300, seed=0, settings=settings, slots=2)
        assert 200 < server.counts["search", "task"] <= 300
        assert server.given == found.notes["candidates"]
        assert server.counts["test", "task"] == 0
        assert found.notes["json_calls"] == 0
        assert found.notes["demos"] <= TASK.demos
        said = check_test(found, server)
    assert {score(text, row["label"]) for text, row in zip(said, TEST, strict=True)} == {0, 1}


@pytest.mark.parametrize("settings", ["default", "plain-default"])
def test_mipro_takes_its_own_size_of_a_run(mipro: Any, settings: str) -> None:
    with serving(often_right) as server:
        found = mipro.search(server.base("search"), TASK, DATA, cap=1, seed=0, settings=settings, slots=2)
        assert server.given == 3
        assert server.counts["search", "task"] > 100
        check_test(found, server)


def test_mipro_survives_a_model_that_never_finds_its_form(mipro: Any) -> None:
    with serving(lambda messages: "something else") as server:
        found = mipro.search(server.base("search"), TASK, DATA, cap=300, seed=0, settings="equal", slots=2, trials=1)
        assert found.notes["json_calls"] * 2 == server.counts["search", "task"]
        assert list(found.answers(TEST, server.base("test"))) == [""] * len(TEST)


def test_mipro_says_what_it_cannot_do(mipro: Any) -> None:
    with serving(often_right) as server:
        with pytest.raises(ValueError, match="raise the cap"):
            mipro.search(server.base("search"), TASK, DATA, cap=60, seed=0, settings="equal", slots=2)
        with pytest.raises(ValueError, match="there are no settings 'fast'"):
            mipro.search(server.base("search"), TASK, DATA, cap=60, seed=0, settings="fast", slots=2)


def test_the_plain_form_is_that_of_our_templates(mipro: Any) -> None:
    import dspy

    demos = [{"query": row["query"], "fruit": row["label"]} for row in DATA.train[:3]]
    asked = mipro.PlainAdapter(TASK).format(
        dspy.Signature("query -> fruit", TASK.instruction), demos, {"query": TEST[0]["query"]}
    )
    examples = tuple(FewShotExample(fill(TASK.user, row), row["label"]) for row in DATA.train[:3])
    expected = render(PromptTemplate(TASK.instruction, TASK.user, examples), TEST[0])
    assert asked == [{"role": message.role, "content": message.content} for message in expected]


def test_gepa_searches_with_about_the_cap() -> None:
    if not all(map(find_spec, ("gepa", "litellm"))):
        pytest.skip("gepa and litellm are not installed")
    from benchmarks.mipro_comparison import gepa_peer

    with serving(often_right) as server:
        found = gepa_peer.search(server.base("search"), TASK, DATA, cap=100, seed=0, settings="equal", slots=2)
        assert server.counts["search", "task"] == found.notes["metric_calls"]
        assert 100 <= found.notes["metric_calls"] < 100 + len(DATA.val) + 6
        assert found.prompt(TEST[0])[0]["content"] in {TASK.instruction, *POOL}
        check_test(found, server)
        with pytest.raises(ValueError, match="there are no settings 'default'"):
            gepa_peer.search(server.base("search"), TASK, DATA, cap=100, seed=0, settings="default", slots=2)
