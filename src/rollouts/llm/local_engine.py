"""llama.cpp in this process, through `xllamacpp`: the settings, one generation, the tokenizer.

Measured choices (SmolLM2-135M, two cores, prompts of about 850 tokens of which 830 are shared):

- One slot. Several slots decode together, but then an answer depends on what else runs at that moment.
- Flash attention off. Its result on the CPU depends on how a prompt is cut into batches, so that a cached prefix
  changes answers; without it they are the same to the last bit, and the calls are no slower.
- A host-memory cache of prefixes: coming back to a prefix copies it (about 23 kB a token) and computes nothing.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol

from rollouts.dtypes import Response, Usage
from rollouts.errors import ConfigError, InvalidRequest, MalformedResponse, ProviderError, ProviderUnavailable

CONTEXT_TOKENS = 8192  # the limit of SmolLM2; 190 MB of keys and values
CACHED_PREFIXES_MIB = 512  # filled only as used; about 25 prefixes of 850 tokens
BATCH_TOKENS = 512  # a running prompt can be stopped between batches
MAX_THREADS = 8  # a small model gets slower when more threads wait for each other
COUNTED_TEXTS = 4096  # token counts kept, so that the shared messages of many requests are counted once


class Engine(Protocol):
    """A loaded model that answers one request at a time, from one thread."""

    n_ctx: int

    def generate(self, body: Mapping[str, Any], stopped: Callable[[], bool], *, exact: bool = True) -> Response | None:
        """Answers a chat-completion body; None when `stopped` said so on the way.

        `exact` asks that the answer depends on `body` alone, not on what is cached. Raises InvalidRequest or another
        ProviderError.
        """
        ...

    def count(self, text: str) -> int:
        """Tokens of `text`; may be called from any thread."""
        ...

    def prompt_bound(self, contents: Sequence[str]) -> int:
        """At least the prompt tokens of a chat whose messages say `contents`; may be called from any thread."""
        ...

    def close(self) -> None:
        """Frees the model."""
        ...


class _WholePromptCached(Exception):
    """All of the prompt but its last token is cached.

    That token would be computed alone, and llama.cpp rounds a batch of one differently from every larger batch.
    """


class LlamaEngine:
    """The engine that runs a GGUF file. Raises ConfigError when llama.cpp cannot load it. Prints nothing."""

    def __init__(self, weights: Path) -> None:
        # llama.cpp listens on a loopback port of its own; the key keeps other programs and web pages out of it.
        self._key = secrets.token_hex(16)
        self._server = start_server(weights, api_keys=[self._key], cors_origins="")
        host, _, port = self._server.listening_address.removeprefix("http://").rpartition(":")
        self._host, self._port = host, int(port)
        self.n_ctx = int(self._ask("GET", "/props")["default_generation_settings"]["n_ctx"])
        self.count = lru_cache(COUNTED_TEXTS)(self._count)
        self._opening = self._template_tokens("user")
        turns = self._template_tokens("system", "user", "assistant", "user") - self._template_tokens("system", "user")
        self._per_message = turns // 2 + 2  # one for an odd sum, one for tokens cut at the edge of a message

    def generate(self, body: Mapping[str, Any], stopped: Callable[[], bool], *, exact: bool = True) -> Response | None:
        try:
            return self._stream(body, stopped, refuse_whole=exact)
        except _WholePromptCached:
            self._stream(_neighbour(body), stopped)
        try:
            return self._stream(body, stopped, refuse_whole=True)
        except _WholePromptCached:  # it came back from the host-memory cache
            return self._stream({**body, "cache_prompt": False}, stopped)

    def _stream(
        self, body: Mapping[str, Any], stopped: Callable[[], bool], *, refuse_whole: bool = False
    ) -> Response | None:
        chunks: list[dict[str, Any]] = []
        halted = whole = False

        def receive(chunk: dict[str, Any]) -> bool:
            nonlocal halted, whole
            chunks.append(chunk)
            progress = chunk.get("prompt_progress")
            whole = whole or (refuse_whole and progress is not None and progress["cache"] >= progress["total"] - 1)
            halted = halted or stopped()
            return halted or whole

        streamed = {**body, "stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        try:
            self._server.handle_chat_completions(streamed, receive)
        except (ValueError, RuntimeError) as error:
            raise InvalidRequest(f"the model cannot take this request: {error}") from error
        if whole and not halted:
            raise _WholePromptCached
        return None if halted else _answer(chunks)

    def prompt_bound(self, contents: Sequence[str]) -> int:
        return self._opening + sum(self.count(content) + self._per_message for content in contents)

    def close(self) -> None:
        self._server = None

    def _count(self, text: str) -> int:
        return len(self._ask("POST", "/tokenize", {"content": text, "parse_special": True})["tokens"])

    def _template_tokens(self, *roles: str) -> int:
        messages = [{"role": role, "content": ""} for role in roles]
        prompt: str = self._ask("POST", "/apply-template", {"messages": messages})["prompt"]
        return self._count(prompt) + 1  # one for a beginning-of-text token

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        connection = HTTPConnection(self._host, self._port, timeout=60)
        try:
            headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
            connection.request(method, path, json.dumps(body) if body is not None else None, headers)
            reply = connection.getresponse()
            content = reply.read()
        except OSError as error:
            raise ProviderUnavailable(f"the local model does not answer on its loopback port: {error}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise ProviderUnavailable(f"the local model answered {reply.status} to {path}", status=reply.status)
        return json.loads(content)


def _neighbour(body: Mapping[str, Any]) -> dict[str, Any]:
    """A one-token request with the same prefix and another last message: after it, only the prefix is cached."""
    *shared, last = body["messages"]
    other = {**last, "content": "" if last["content"] else "."}
    return {"messages": [*shared, other], "max_tokens": 1, "temperature": 0.0}


def start_server(weights: Path, **settings: Any) -> Any:
    """A silent llama.cpp server for `weights`; `settings` are fields of `xllamacpp.CommonParams`.

    Raises ConfigError when it does not start.
    """
    import xllamacpp  # optional: only who runs a local model needs it

    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.n_ctx, params.n_parallel = CONTEXT_TOKENS, 1
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_ram_mib = CACHED_PREFIXES_MIB
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
    params.fit_params = params.warmup = params.ui = False
    params.verbosity = -1
    for name, value in settings.items():
        setattr(params, name, value)
    try:
        return xllamacpp.Server(params)
    except RuntimeError as error:
        raise ConfigError(f"llama.cpp cannot load {weights.name}: not a GGUF model, or not enough memory") from error


def threads() -> int:
    """One thread per physical core that this process may use, at most MAX_THREADS."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # not Linux
        return min(os.cpu_count() or 1, MAX_THREADS)
    topology = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    cores = {_read(topology.format(cpu)) or str(cpu) for cpu in allowed}
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    share = int(quota) // int(period) if quota.isdigit() and period.isdigit() else len(cores)
    return max(1, min(len(cores), share, MAX_THREADS))


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _answer(chunks: Sequence[dict[str, Any]]) -> Response:
    """The streamed pieces as one response, without its latency."""
    text: list[str] = []
    finish_reason, usage = "", None
    for chunk in chunks:
        if "error" in chunk:
            raise _error(chunk["error"])
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text.append(choice["delta"].get("content") or "")
            finish_reason = choice["finish_reason"] or finish_reason
    if not finish_reason or usage is None:
        raise MalformedResponse("llama.cpp ended its answer without a finish reason or usage")
    cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
    counted = Usage(
        prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"], cached_tokens=cached
    )
    return Response(text="".join(text), finish_reason=finish_reason, usage=counted)


def _error(error: Mapping[str, Any]) -> ProviderError:
    if error.get("type") == "exceed_context_size_error":
        return InvalidRequest(
            f"the prompt has {error['n_prompt_tokens']} tokens and the model's limit is {error['n_ctx']}: "
            "shorten it or use fewer demonstrations",
            status=400,
        )
    status, message = int(error.get("code", 500)), f"llama.cpp: {error.get('message', 'failed')}"
    return (InvalidRequest if 400 <= status < 500 else ProviderUnavailable)(message, status=status)
