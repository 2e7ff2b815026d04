"""Hostile code does no harm: it is stopped, and its result says by what."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rollouts.environments.sandbox import SandboxLimits, run_python

SECRET = "ROLLOUTS_TEST_SECRET"


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(3 * 12)", "36\n"),
        ("import math, statistics\nprint(math.gcd(12, 18), statistics.median([1, 2, 9]))", "6 2\n"),
        ("print('ü')", "ü\n"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(20))", "2432902008176640000\n"),
        ("open('note', 'w').write('kept'); print(open('note').read())", "kept\n"),
        ("", ""),
    ],
)
async def test_harmless_code_runs(code: str, output: str) -> None:
    result = await run_python(code)
    assert (result.output, result.error) == (output, "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("print('half'); raise ValueError('no')", "ValueError: no"),
        ("print(", "SyntaxError"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("raise KeyboardInterrupt", "killed by SIGINT"),
    ],
)
async def test_what_goes_wrong_is_told_in_one_line(code: str, error: str) -> None:
    result = await run_python(code)
    assert error in result.error
    assert "\n" not in result.error


HOSTILE = {
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "fork past the guard": "import sys\nfork = sys.modules['posix'].fork\nwhile True:\n    fork()",
    "threads": "import _thread\nwhile True:\n    _thread.start_new_thread(print, ())",
    "memory": "x = []\nwhile True:\n    x.append('x' * 10_000_000)",
    "one large block": "x = bytearray(10 ** 10)",
    "deep recursion": "def f(n):\n    return f(n + 1) + 1\nf(0)",
    "output": "while True:\n    print('x' * 1000)",
    "a file of the system": "print(open('/etc/passwd').read())",
    "a file by its descriptor": "import os\nprint(os.read(os.open('/etc/passwd', 0), 99))",
    "a file above": "print(open('../x', 'w'))",
    "a climb by descriptors": (
        "import os\nfd = os.open('..', 0)\nfd = os.open('..', 0, dir_fd=fd)\n"
        "print(open('passwd', opener=lambda path, flags: os.open(path, flags, dir_fd=fd)).read())"
    ),
    "a path object": "import pathlib\nprint(pathlib.Path('/etc/passwd').read_text())",
    "a text that lies": "class S(str):\n    def find(self, *_): return -1\nprint(open(S('/etc/passwd')).read())",
    "builtins replaced": "import builtins\nbuiltins.type = lambda x: str\nbuiltins.str = None\nopen('/etc/passwd')",
    "listing": "import os\nprint(os.listdir('/'))",
    "a link out": "import os\nos.symlink('/etc/passwd', 'p')\nprint(open('p').read())",
    "elsewhere": "import os\nos.chdir('/etc')\nprint(open('passwd').read())",
    "removing": "import os\nos.remove('/etc/passwd')",
    "a large file": "f = open('big', 'w')\nwhile True:\n    f.write('x' * 100_000)",
    "a socket": "import socket\nsocket.create_connection(('127.0.0.1', 9))",
    "a socket without the module": "import _socket\n_socket.socket()",
    "a program": "import subprocess\nsubprocess.run(['id'])",
    "a shell": "import os\nos.system('id')",
    "another program": "import os\nos.execv('/bin/sh', ['sh', '-c', 'id'])",
    "machine code": "import ctypes\nctypes.CDLL(None).system(b'id')",
    "more of everything": "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "the parent": "import os\nos.kill(os.getppid(), 9)",
    "the guard itself": "import gc\nprint([g for g in gc.get_objects() if 'guard' in repr(g)])",
}


@pytest.mark.parametrize("code", HOSTILE.values(), ids=HOSTILE.keys())
async def test_hostile_code_is_stopped(code: str) -> None:
    result = await run_python(code, SandboxLimits(seconds=10, memory_mb=128))
    assert result.error
    assert "no end within" not in result.error
    assert not any(found in result.output for found in ("root:", "uid="))


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(60)"], ids=["computing", "sleeping"])
async def test_an_endless_loop_is_cut(code: str) -> None:
    started = time.monotonic()
    result = await run_python(code, SandboxLimits(seconds=0.3))
    assert result.error == "no end within 0.3 s"
    assert time.monotonic() - started < 5


async def test_it_sees_nothing_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "value")
    result = await run_python("import os, sys; print(dict(os.environ), sys.argv[1:], sys.stdin.read())")
    assert SECRET not in result.output
    assert result.output.strip().endswith("[]")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can become nobody")
async def test_root_gives_its_rights_away() -> None:
    assert (
        await run_python("import os; print(os.getuid(), os.geteuid(), os.getgroups())")
    ).output == "65534 65534 []\n"


async def test_its_directory_is_gone_afterwards() -> None:
    result = await run_python("import os; open('left', 'w').write('x'); print(os.getcwd())")
    assert result.error == ""
    assert not Path(result.output.strip()).exists()


async def test_a_cancelled_run_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def starting(*args: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*args, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", starting)
    run = asyncio.create_task(run_python("while True: pass", SandboxLimits(seconds=60)))
    await asyncio.sleep(0.1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    (process,) = started
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
