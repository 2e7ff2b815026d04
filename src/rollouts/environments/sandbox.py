"""Generated Python code, run in a restricted process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_CHILD = Path(__file__).with_name("sandbox_child.py")
_NOBODY = 65534
_ISOLATED = ("-I", "-S", "-B", "-X", "utf8")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What one run may take: seconds of wall-clock time, megabytes of memory and of each file it writes, and bytes of
    output."""

    seconds: float = 2.0
    memory_mb: float = 256.0
    file_mb: float = 1.0
    output_bytes: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    """What the code printed; `error` says in one line why it did not end well, and is empty when it did."""

    output: str
    error: str = ""


DEFAULT_LIMITS = SandboxLimits()


async def run_python(code: str, limits: SandboxLimits = DEFAULT_LIMITS) -> SandboxResult:
    """Runs `code` and returns what it printed. Nothing that the code does is raised.

    The process has an empty environment, no input, and a temporary directory, which is its own and the only place where
    it may open files. It can start no process or thread, open no socket, and import only `collections`, `datetime`,
    `decimal`, `fractions`, `functools`, `itertools`, `json`, `math`, `random`, `re`, `statistics`, `string` and what
    these load. Started by root, it runs as nobody.

    Time, memory, file size and processes are limited by the kernel; files, sockets and imports by an audit hook of the
    interpreter. That holds back what a model writes. Against somebody who attacks the interpreter itself, run the whole
    program in a container. Needs Linux.
    """
    with tempfile.TemporaryDirectory(prefix="rollouts-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            os.chown(folder, _NOBODY, _NOBODY)
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *_ISOLATED,
            str(_CHILD),
            *map(str, (limits.seconds, limits.memory_mb, limits.file_mb)),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            cwd=folder,
            env={},
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limits.seconds):
                return await _outcome(process, code, limits)
        except TimeoutError:
            return SandboxResult(output="", error=f"no end within {limits.seconds:g} s")
        finally:
            await _end(process)


async def _outcome(process: Process, code: str, limits: SandboxLimits) -> SandboxResult:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("the process was started without pipes")
    with suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(code.encode("utf-8", "replace"))
        await stdin.drain()
    stdin.close()
    try:
        await stdout.readexactly(limits.output_bytes + 1)
    except asyncio.IncompleteReadError as end:
        output = end.partial.decode("utf-8", "replace")
    else:
        return SandboxResult(output="", error=f"more than {limits.output_bytes} bytes of output")
    status = await process.wait()
    if status < 0:
        return SandboxResult(output=output, error=f"killed by {signal.Signals(-status).name}")
    lines = output.strip().splitlines() or [f"exit status {status}"]
    return SandboxResult(output=output, error=lines[-1] if status else "")


async def _end(process: Process) -> None:
    """Kills the process if it still runs, and frees its pipe, which may be full."""
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdout is not None:
        await process.stdout.read()
    await process.wait()
