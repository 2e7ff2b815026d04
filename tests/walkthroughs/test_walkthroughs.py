"""The walkthroughs run unattended, leave their files, and leave nothing running."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from rollouts.taskapp.ports import listen
from rollouts.testing import MockProvider
from tests.docs.world import reply
from tests.service.conftest import Service, service, start

__all__ = ["service", "start"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the walkthroughs are shell scripts")]

WALKTHROUGHS = Path(__file__).parents[2] / "walkthroughs"
STEPS = ("Prerequisites", "ENVIRONMENT_API_KEY", "Task app", "Configuration", "Optimization job", "Results")
FILES = {"best_prompt.json", "score_history.json", "job_metadata.json", "selected_demos.json"}
HIDDEN = ("ROLLOUTS_URL", "ROLLOUTS_API_KEY", "ROLLOUTS_STORE", "ENVIRONMENT_API_KEY")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, kw_only=True)
class Walk:
    """A walkthrough in a folder of its own, on ports of its own."""

    algorithm: str
    folder: Path
    app_port: int
    service_port: int

    @classmethod
    def of(cls, algorithm: str, folder: Path) -> Walk:
        return cls(algorithm=algorithm, folder=folder, app_port=free_port(), service_port=free_port())

    def command(self, *options: str) -> list[str]:
        script = str(WALKTHROUGHS / self.algorithm / "run_interactive.sh")
        return ["bash", script, "--dir", str(self.folder), "--app-port", str(self.app_port), *options]

    def begin(self, *options: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """In a process group of its own, as a terminal would."""
        own = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        own |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", **(env or {})}
        return subprocess.Popen(
            self.command(*options),
            env=own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A terminal's Ctrl-C counts, also where the tests themselves run in the background of a shell.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
        )

    def alone(self, *options: str) -> subprocess.Popen[str]:
        """With the simulated model, and a service of its own."""
        return self.begin("--simulated", "--backend", f"http://127.0.0.1:{self.service_port}", *options)


def running(said: str) -> list[int]:
    """Those of the processes that a walkthrough has started which are still there. What has ended stands in the table
    of processes until its new parent has noticed, which a busy machine puts off."""
    pids = [int(pid) for pid in re.findall(r"^PID of the [\w ]+: (\d+)", said, re.MULTILINE)]
    assert pids
    for _ in range(50):
        left = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not left:
            break
        time.sleep(0.1)
    return left


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Walk, str]]:
    """Both walkthroughs, ended, with what they said."""
    walks = [Walk.of(name, tmp_path_factory.mktemp(name)) for name in ("mipro", "gepa")]
    processes = [walk.alone("--yes") for walk in walks]
    ended = {}
    for walk, process in zip(walks, processes, strict=True):
        out, _ = process.communicate(timeout=110)
        assert process.returncode == 0, out
        ended[walk.algorithm] = (walk, out)
    return ended


@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
def test_six_steps_lead_to_the_files(done: dict[str, tuple[Walk, str]], algorithm: str) -> None:
    walk, said = done[algorithm]
    assert re.findall(r"^Step \d: (.*)$", said, re.MULTILINE) == list(STEPS)
    assert f"{algorithm.upper()} Prompt Optimization" in said
    assert "Best Score: " in said
    assert running(said) == []
    assert {file.name for file in (walk.folder / "results").iterdir()} == FILES
    best = json.loads((walk.folder / "results" / "best_prompt.json").read_text())
    assert best["instruction"]["role"] == "system"
    assert json.loads((walk.folder / "results" / "job_metadata.json").read_text())["job"]["status"] == "succeeded"
    assert {"env_key.txt", f"{algorithm}_config.toml", "task_app.log"} <= {file.name for file in walk.folder.iterdir()}


@pytest.mark.parametrize("algorithm", ["mipro", "gepa"])
def test_keys_are_shown_to_nobody(done: dict[str, tuple[Walk, str]], algorithm: str) -> None:
    walk, said = done[algorithm]
    file = walk.folder / "env_key.txt"
    name, _, key = file.read_text().strip().partition("=")
    assert (name, stat.S_IMODE(file.stat().st_mode)) == ("ENVIRONMENT_API_KEY", 0o600)
    assert stat.S_IMODE(walk.folder.stat().st_mode) & 0o077 == 0
    others = [path for path in walk.folder.rglob("*") if path.is_file() and path != file]
    assert key.encode() not in said.encode() + b"".join(path.read_bytes() for path in others)


def test_both_are_compared(done: dict[str, tuple[Walk, str]]) -> None:
    folders = [str(done[name][0].folder) for name in ("mipro", "gepa")]
    script = str(WALKTHROUGHS / "compare.py")
    shown = subprocess.run([sys.executable, script, *folders], capture_output=True, text=True, check=True).stdout
    for row in ("test score", "starting prompt", "verdict", "model calls", "leader by iteration"):
        assert re.search(rf"^{row} +\S+.* {{2,}}\S+", shown, re.MULTILINE), row
    for line in ("Score: ", "Calls: ", "Convergence: MIPRO", "Convergence: GEPA", "MIPRO's prompt:", "GEPA's prompt:"):
        assert f"\n{line}" in shown
    nothing = subprocess.run(
        [sys.executable, script, "/nowhere", folders[0]], capture_output=True, text=True, check=False
    )
    assert (nothing.returncode, "run the walkthrough first" in nothing.stderr) == (1, True)


def test_a_busy_port_is_named_with_its_owner(tmp_path: Path) -> None:
    walk = Walk.of("mipro", tmp_path)
    with listen("127.0.0.1", walk.app_port):
        process = walk.alone("--yes")
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert f"port {walk.app_port}; it is used by pid {os.getpid()}" in said
    assert "Step 4" not in said
    assert running(said) == []


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    walk = Walk.of("gepa", tmp_path)
    process = walk.alone()
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n\n")  # past the first two pauses
    process.stdin.flush()
    said = ""
    while "task app running" not in said:
        line = process.stdout.readline()
        assert line, said
        said += line
    os.killpg(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said + rest
    assert running(said) == []
    assert "goes on with it" not in rest  # there is no job yet


async def test_a_service_that_runs_is_taken(service: Service, provider: MockProvider, tmp_path: Path) -> None:
    walk = Walk.of("mipro", tmp_path)
    process = walk.begin("--yes", "--simulated", env={"ROLLOUTS_URL": service.url})
    said, _ = await asyncio.to_thread(process.communicate, timeout=60)
    assert (process.returncode, "put a key of it" in said) == (1, True)
    keys = {"ROLLOUTS_URL": service.url, "ROLLOUTS_API_KEY": service.make_key(), "ENVIRONMENT_API_KEY": "key-of-mine"}
    process = walk.begin("--yes", "--simulated", env=keys)
    said, _ = await asyncio.to_thread(process.communicate, timeout=100)
    assert process.returncode == 0, said
    assert "No service runs" not in said
    assert (tmp_path / "env_key.txt").read_text() == "ENVIRONMENT_API_KEY=key-of-mine\n"
    assert {file.name for file in (tmp_path / "results").iterdir()} == FILES
    assert provider.calls > 0


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    async with MockProvider(reply=reply) as mock:
        yield mock


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--what",), "Usage: "),
        (("--app-port",), "--app-port needs a value"),
        (("--simulated", "--data-dir", "/data"), "the simulated model knows the tickets alone"),
        (("--yes", "--backend", "http://models.invalid:1"), "no service answers at"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    process = Walk.of("mipro", tmp_path).begin(*options)
    out, _ = process.communicate(timeout=60)
    assert process.returncode in (1, 2)
    assert said in out


@pytest.mark.model
@pytest.mark.timeout(600)
def test_mipro_runs_on_the_embedded_model(tmp_path: Path) -> None:
    walk = Walk.of("mipro", tmp_path)
    process = walk.begin("--yes", "--backend", f"http://127.0.0.1:{walk.service_port}")
    said, _ = process.communicate(timeout=590)
    assert process.returncode == 0, said
    assert "✓ embedded model installed" in said
    assert running(said) == []
    assert {file.name for file in (tmp_path / "results").iterdir()} == FILES
    verdict = json.loads((tmp_path / "results" / "job_metadata.json").read_text())["verdict"]
    assert verdict["n"] > 0
