"""`rollouts serve-model`."""

from __future__ import annotations

import signal
import threading

from rollouts.cli import words
from rollouts.llm.serve import serve_model


def serve(model: str, host: str, port: int) -> int:
    """Serves the embedded model until a signal comes."""
    stopped = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with serve_model(model, host, port) as server:
            console = words.make_console()
            console.print(f"{model} at {server.address}/v1 (OpenAI-compatible, no key); Ctrl-C ends it", soft_wrap=True)
            while not stopped.wait(0.2):
                pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0
