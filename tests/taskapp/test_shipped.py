"""The apps that come with the package, and how the command serves them."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rollouts.cli.app import run
from rollouts.datasets import DatasetSpec, load
from rollouts.dtypes import Request, Response, ToolCall
from rollouts.errors import ConfigError, DataError
from rollouts.evaluation import Task, evaluate_sample
from rollouts.taskapp import RemoteApp, remote_program, reward_of
from rollouts.taskapp.ports import listen
from rollouts.taskapp.shipped import APPS
from rollouts.taskapp.tunnel import tunnel
from rollouts.testing import ScriptedLLM

from .kit import KEY, MODEL, desk_over, seeds, served

SHARED = Path(__file__).parents[3] / "shared" / "data"
banking = pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")


async def rewards(name: str, reply: Any, numbers: Sequence[int]) -> list[float | None]:
    """What the shipped app gives a model for these seeds."""
    app = APPS[name].make(SHARED, [KEY])
    async with desk_over(ScriptedLLM(reply)) as desk, served(app) as url:
        remote = RemoteApp(url, KEY)
        info = await remote.info()
        assert info.baseline is not None
        program = remote_program(remote, info.baseline, desk)
        task = Task(endpoint=MODEL, score_fn=reward_of)
        found = [await evaluate_sample(program, sample, task, {}) for sample in seeds(numbers)]
        await remote.close()
    return [evaluation.value for evaluation in found]


def right(path: str, text: str, truth: str) -> Any:
    """A model that knows the data set."""
    known = {row[text]: str(row.ground_truth) for row in load(DatasetSpec(path=path, ground_truth=truth))}
    return lambda request: known[request.messages[-1].content.split("\n")[0].partition(": ")[2]]


async def test_the_tickets_work_out_of_the_box() -> None:
    assert await rewards("tickets", right("tickets", "ticket", "route"), range(6)) == [1.0] * 6
    assert await rewards("tickets", lambda request: "nowhere", [0]) == [0.0]


@pytest.mark.shared
@banking
async def test_banking77_is_served_where_the_data_are() -> None:
    reply = right(str(SHARED / "banking77" / "train.csv"), "text", "category")
    assert await rewards("banking77", reply, range(3)) == [1.0] * 3
    async with served(APPS["banking77"].make(SHARED, [KEY])) as url:
        remote = RemoteApp(url, KEY)
        info = await remote.info()
        assert (info.name, info.size, len(info.labels)) == ("banking77", 10_003, 77)
        kinds = {sample.ground_truth for sample in await remote.samples(range(60))}
        assert len(kinds) > 30, "neighbouring seeds are of one kind"
        await remote.close()


def test_banking77_without_data_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _no_network)
    with pytest.raises(DataError, match=r"--data-dir DIR .* rollouts task-app tickets"):
        APPS["banking77"].make(tmp_path, [KEY])


def _no_network(*arguments: Any, **options: Any) -> Any:
    raise OSError("no network")


async def test_the_calculator_agent_uses_its_tool() -> None:
    def reply(request: Request) -> Response | str:
        last = request.messages[-1]
        if last.role == "tool":
            return f"The answer is {last.content}."
        a, b, c = re.findall(r"\d+", last.content)
        form = {"hall": f"{a}*{b}-{c}", "farm": f"{a}*{b}+{c}", "printer": f"{b}*1000-{c}*{a}"}
        expression = next(text for word, text in form.items() if word in last.content)
        call = ToolCall(id="c", name="calculate", arguments=f'{{"expression": "{expression}"}}')
        return Response(text="", tool_calls=(call,), finish_reason="tool_calls")

    assert await rewards("calculator", reply, range(3)) == [1.0] * 3


def test_a_busy_port_is_named_with_its_owner(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port}; it is used by pid {os.getpid()} "):
            listen("127.0.0.1", port).close()
        assert run(["task-app", "tickets", "--port", str(port)]) == 2
        assert f"pid {os.getpid()}" in capsys.readouterr().err
    listen("127.0.0.1", port).close()
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1 port 8001"):
        listen("192.0.2.1", 8001)


def test_an_unknown_app_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["task-app", "nope"]) == 2
    assert "one of banking77, calculator, tickets" in capsys.readouterr().err


def test_the_command_serves_until_it_is_told_to_stop() -> None:
    environment = {name: value for name, value in os.environ.items() if "ENVIRONMENT_API_KEY" not in name}
    program = "from rollouts.cli import main; main()"
    command = [sys.executable, "-c", program, "task-app", "tickets", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        key = re.match(r"ENVIRONMENT_API_KEY=(env_\w{32}) ", process.stdout.readline())
        address = re.match(r"tickets at (http://127.0.0.1:\d+);", process.stdout.readline())
        assert key is not None
        assert address is not None
        asked = urllib.request.Request(f"{address[1]}/task_info", headers={"X-API-Key": key[1]})
        with urllib.request.urlopen(asked, timeout=30) as answer:
            assert b'"dataset_size":432' in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130


FAKE = """#!/usr/bin/env bash
echo "INF Requesting new quick Tunnel on trycloudflare.com..." >&2
{lines}
"""


def fake_cloudflared(folder: Path, monkeypatch: pytest.MonkeyPatch, lines: str) -> None:
    script = folder / "cloudflared"
    script.write_text(FAKE.format(lines=lines))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_tunnel_gives_its_address_and_ends_with_its_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        'echo "$@" > "$(dirname "$0")/args"; echo "INF |  https://some-words-here.trycloudflare.com  |" >&2; exec cat'
    )
    fake_cloudflared(tmp_path, monkeypatch, lines.replace("exec cat", "exec sleep 60"))
    with tunnel(8002) as address:
        assert address == "https://some-words-here.trycloudflare.com"
    assert (tmp_path / "args").read_text().split()[-2:] == ["--url", "http://127.0.0.1:8002"]


@pytest.mark.parametrize(("lines", "said"), [("exit 1", "ended without"), ("exec sleep 60", "named no address")])
def test_a_tunnel_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, said: str) -> None:
    fake_cloudflared(tmp_path, monkeypatch, lines)
    with pytest.raises(ConfigError, match=said), tunnel(8002, timeout_s=0.3):
        pass


def test_a_tunnel_needs_its_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="not installed"), tunnel(8002):
        pass
