"""The embedded model for other tools: llama.cpp's OpenAI-compatible HTTP server on this machine."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Any, Self

from rollouts.errors import ConfigError
from rollouts.llm.local_engine import CACHED_PREFIXES_MIB, start_server
from rollouts.llm.local_weights import find_weights

DEFAULT_PORT = 8080


class ModelServer:
    """A running server. `address` is its root (`http://host:port`); the OpenAI base URL is `address + "/v1"`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._stopped = threading.Event()
        self.address: str = server.listening_address

    def wait(self, timeout_s: float | None = None) -> bool:
        """Blocks until `close` is called (from another thread or a signal handler); False when the time ran out."""
        return self._stopped.wait(timeout_s)

    def close(self) -> None:
        """Stops listening and frees the model."""
        self._server = None
        self._stopped.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def serve_model(
    model: str = "smollm2-135m",
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    cached_prefixes_mib: int = CACHED_PREFIXES_MIB,
) -> ModelServer:
    """Serves `model` (as in `find_weights`) at `/v1/chat/completions`, `/v1/completions` and `/v1/models`.

    Port 0 takes a free one. `cached_prefixes_mib` bounds the memory for what earlier prompts began with. There is no
    key, so keep `host` on this machine; pages of a web browser are kept out. Prints nothing. Raises ConfigError when
    the model is not installed, or the address cannot be listened on.
    """
    weights = find_weights(model)
    port = _free_port(host, port)
    name = model if model != str(weights) and not model.endswith(".gguf") else weights.stem
    server = start_server(
        weights, hostnames=[host], port=port, model_alias={name}, cors_origins="", cache_ram_mib=cached_prefixes_mib
    )
    return ModelServer(server)


def _free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0; llama.cpp itself would not say why it cannot listen."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"cannot listen on {host} port {port} ({error}): is another server running there? choose another port"
            ) from error
        return int(probe.getsockname()[1])
