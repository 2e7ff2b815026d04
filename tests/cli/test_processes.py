"""Signals, sudden death, closed pipes: real processes against a slow provider."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rollouts.cli import main
from rollouts.store import open_store
from rollouts.testing import MockProvider
from tests.cli.conftest import Cli, environment

Provider = Callable[..., MockProvider]
Start = Callable[..., "subprocess.Popen[str]"]
COMMAND = [sys.executable, "-c", "from rollouts.cli import main; main()"]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


@pytest.fixture
def start(cli: Cli) -> Iterator[Start]:
    """Starts `rollouts` as a process of its own, in the job's folder."""
    running: list[subprocess.Popen[str]] = []

    def begin(*arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            cwd=cli.folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(mock: MockProvider, calls: int) -> None:
    end = time.monotonic() + 30
    while mock.calls < calls:
        assert time.monotonic() < end, f"only {mock.calls} calls came"
        time.sleep(0.005)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def status_of(folder: Path, run_id: str) -> str:
    store = open_store(folder / ".rollouts" / "rollouts.db")
    try:
        return store.run(run_id).status
    finally:
        store.close()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_first_signal_keeps_the_best_so_far(
    cli: Cli, provider: Provider, start: Start, number: signal.Signals, code: int
) -> None:
    mock = provider(latency=0.05)
    process = start("optimize", "job.toml", "--json", "-j", 2)
    wait_for(mock, 60)
    process.send_signal(number)
    returned, out, err = ended(process)
    assert returned == code, err
    found = json.loads(out)
    assert found["stop_reason"] == "interrupted"
    assert all(Path(cli.folder, path).is_file() for path in found["files"].values())
    assert status_of(cli.folder, found["run_id"]) == "stopped"
    assert "stopping" in err
    assert "--resume" in err
    paid = mock.calls
    assert found["spend"]["total"]["calls"] == paid

    whole = cli("optimize", cli.job, "--resume", "--json")
    assert whole.code == 0, whole.err
    assert whole.json["run_id"] == found["run_id"]
    assert whole.json["spend"]["total"]["calls"] == mock.calls
    fresh = cli("optimize", cli.job, "--json", "--store", "fresh.db")
    assert whole.json["test"] == fresh.json["test"]
    assert status_of(cli.folder, found["run_id"]) == "done"


def test_second_signal_ends_at_once(cli: Cli, provider: Provider, start: Start) -> None:
    mock = provider(faults={"hang": 1.0})
    process = start("optimize", "job.toml")
    wait_for(mock, 2)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    code, _, _ = ended(process)
    assert code == 130
    assert time.monotonic() - began < 5


def test_second_signal_ends_a_metric_that_never_returns(cli: Cli, provider: Provider, start: Start) -> None:
    """It holds the event loop up, where no handler of the loop would ever be called."""
    (cli.folder / "stuck.py").write_text(
        "import pathlib, time\n"
        "def stuck(trajectory, sample):\n"
        "    pathlib.Path('begun').touch()\n"
        "    while True:\n"
        "        time.sleep(1)\n"
    )
    mock = provider()
    process = start("optimize", "job.toml", "--set", 'score.metric="stuck:stuck"', "-j", 1)
    wait_for(mock, 1)
    end = time.monotonic() + 30
    while not (cli.folder / "begun").is_file():
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130


def test_ctrl_c_while_modules_load(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "rollouts.cli.app", Loading("rollouts.cli.app"))
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130


@pytest.mark.slow
@pytest.mark.parametrize("method", ["mipro", "gepa"])
def test_killed_and_resumed_stays_under_the_cap_and_ends_as_if_undisturbed(
    cli: Cli, provider: Provider, start: Start, method: str
) -> None:
    mock = provider(latency=0.03)
    cli.change('name = "job"', f'name = "job"\nalgorithm = "{method}"')
    arguments = ("optimize", "job.toml", "--json", "-j", 4)
    for calls in (25, 70):
        process = start(*arguments, "--max-calls", 260, *(["--resume"] if calls > 25 else []))
        wait_for(mock, calls)
        process.kill()
        process.communicate()
    whole = cli("optimize", cli.job, "--json", "--resume", "--max-calls", 260, "-j", 4)
    assert whole.code == 0, whole.err
    assert mock.calls <= 260
    calls = mock.calls
    fresh = cli("optimize", cli.job, "--json", "--store", "fresh.db", "-j", 4)
    assert whole.json["test"] == fresh.json["test"]
    assert whole.json["verdict"] == fresh.json["verdict"]
    # Twice at most four calls were in flight, and up to a step of calls was put down as perhaps paid.
    assert calls <= fresh.json["spend"]["total"]["calls"] + 2 * 2 * 4


def test_cap_holds_over_kills_even_when_it_is_tight(cli: Cli, provider: Provider, start: Start) -> None:
    mock = provider(latency=0.03)
    process = start("optimize", "job.toml", "--max-calls", 60, "-j", 4)
    wait_for(mock, 25)
    process.kill()
    process.communicate()
    answer = cli("optimize", cli.job, "--resume", "--max-calls", 60, "--json")
    assert answer.code == 0, answer.err
    assert mock.calls <= 60


def test_two_processes_on_one_run(cli: Cli, provider: Provider, start: Start) -> None:
    mock = provider(latency=0.2)
    process = start("optimize", "job.toml", "-j", 2)
    wait_for(mock, 4)
    answer = cli("optimize", cli.job, "--resume", "--json")
    assert answer.code == 4
    assert str(process.pid) in answer.json["error"]["message"]
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130


@pytest.mark.slow
def test_provider_down(cli: Cli, start: Start) -> None:
    code, out, err = ended(start("evaluate", "job.toml", "--json", "--limit", 4))
    assert code == 1
    message = json.loads(out)["error"]["message"]
    assert "is the server running" in message
    assert "base_url" in message
    assert message in err


@pytest.mark.slow
def test_closed_pipe_is_no_error(cli: Cli, provider: Provider) -> None:
    provider()
    run = cli("optimize", cli.job, "--json").json["run_id"]
    for arguments in (["runs", "list"], ["runs", "export", run, "--format", "jsonl"]):
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=cli.folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        process.stderr.close()
        assert process.wait(30) == 141


@pytest.mark.slow
def test_terminal_shows_a_live_screen_and_is_given_back(cli: Cli, provider: Provider) -> None:
    import pty

    mock = provider(latency=0.05)
    main, side = pty.openpty()
    arguments = [*COMMAND, "optimize", "job.toml", "-j", "4"]
    with subprocess.Popen(
        arguments, cwd=cli.folder, env={**environment(), "TERM": "xterm"}, stdin=side, stdout=side, stderr=side
    ) as process:
        os.close(side)
        seen = _read(main)
        assert process.wait(30) == 0
    os.close(main)
    assert "trial" in seen
    assert "rollouts (" in seen
    assert "Verdict" in seen
    assert seen.rindex("\x1b[?25h") > seen.rindex("\x1b[?25l")
    assert mock.calls > 0


@pytest.mark.slow
def test_no_color(cli: Cli, provider: Provider) -> None:
    import pty

    provider()
    main, side = pty.openpty()
    env: dict[str, Any] = {**environment(), "TERM": "xterm", "NO_COLOR": "1"}
    with subprocess.Popen(
        [*COMMAND, "optimize", "job.toml"], cwd=cli.folder, env=env, stdin=side, stdout=side, stderr=side
    ) as process:
        os.close(side)
        seen = _read(main)
        assert process.wait(30) == 0
    os.close(main)
    assert "\x1b[3" not in seen.replace("\x1b[3m", "")


def _read(descriptor: int) -> str:
    chunks = []
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            break
        if not chunk:
            break
        chunks.append(chunk)
    return b"".join(chunks).decode()


def test_help_is_fast_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; from rollouts.cli.app import run; code = run(['--help']); "
        "print([n for n in ('optuna', 'scipy', 'numpy', 'aiohttp', 'sqlalchemy', 'pydantic') if n in sys.modules],"
        " file=sys.stderr); sys.exit(code)"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment())
    assert done.returncode == 0
    assert done.stderr.strip() == "[]"
    for text in ("optimize", "evaluate", "demo", "runs", "Exit codes"):
        assert text in done.stdout
