"""A public address for a port of this machine, by Cloudflare's `cloudflared` where that is installed."""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from rollouts.errors import ConfigError

PROGRAM = "cloudflared"
_ADDRESS = re.compile(r"https://[a-z0-9-]+\.trycloudflare\.com")


@contextmanager
def tunnel(port: int, *, timeout_s: float = 30.0) -> Iterator[str]:
    """A quick tunnel to `port`: its public URL, while the context lasts.

    Raises ConfigError when `cloudflared` is not installed, ends, or names no URL in `timeout_s` seconds.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise ConfigError(
            f"{PROGRAM} is not installed; install it (https://developers.cloudflare.com/cloudflare-one/), or leave "
            "--tunnel out and use the local address"
        )
    command = [program, "tunnel", "--no-autoupdate", "--url", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        addresses: queue.Queue[str] = queue.Queue()
        threading.Thread(target=_read, args=(process.stderr, addresses), daemon=True).start()
        try:
            yield _address(addresses, timeout_s)
        finally:
            process.terminate()


def _read(output: IO[bytes] | None, addresses: queue.Queue[str]) -> None:
    """Puts the address into `addresses`, and an empty text at the end; reads on, or the program would block."""
    for line in output or ():
        if found := _ADDRESS.search(line.decode("utf-8", "replace")):
            addresses.put(found[0])
    addresses.put("")


def _address(addresses: queue.Queue[str], timeout_s: float) -> str:
    try:
        address = addresses.get(timeout=timeout_s)
    except queue.Empty:
        raise ConfigError(f"{PROGRAM} named no address in {timeout_s:g} s; is this machine on the network?") from None
    if not address:
        raise ConfigError(f"{PROGRAM} ended without an address; run it by hand to see why")
    return address
