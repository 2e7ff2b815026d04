"""From what went wrong on the wire to the errors that the user sees. The same for all HTTP providers.

Every text that came from the server is redacted before it is cut short, so that not even a part of a key is shown.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from rollouts.errors import (
    AuthenticationFailed,
    CallTimeout,
    InvalidRequest,
    MalformedResponse,
    ModelNotFound,
    NoCredit,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
)
from rollouts.llm.keys import redact

_SHOWN = 300
_NO_CREDIT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_MAYBE_BILLED = frozenset({502, 504, 520, 524})  # a gateway gave up; the model behind it may have answered
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Makes the errors of one endpoint. `name` is `provider/model`, `host` where it is, `key_hint` what to set."""

    name: str
    host: str
    key_hint: str = "the key"
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def status(self, status: int, headers: Mapping[str, str], body: str) -> ProviderError:
        """The error for an HTTP status that is not 2xx, or for an error object inside a 200."""
        said, codes = error_of(body)
        detail = self._clean(said)
        model = self.name.partition("/")[2]
        at = f"{self.name} at {self.host} (status {status})"
        if status == 402 or codes & _NO_CREDIT:
            return NoCredit(f"{at}: the account has no credit left; add credit{detail}", status=status)
        if status == 429:
            wait = retry_after(headers)
            return RateLimited(f"{at}: too many requests{detail}", status=status, retry_after=wait)
        if status == 408:
            return CallTimeout(f"{at}: the server gave up waiting{detail}", status=status)
        if status in (401, 403):
            return AuthenticationFailed(f"{at}: {self.key_hint} is wrong or may not do this{detail}", status=status)
        if status == 404:
            text = f"no such model {model!r} or route at {self.host} (status 404, {self.name}); check the name of the"
            return ModelNotFound(f"{text} model and the path of base_url (most end in /v1){detail}", status=status)
        if 300 <= status < 400:
            return InvalidRequest(f"{at}: the server redirects; set base_url to its final address", status=status)
        if status >= 500:
            error = ProviderUnavailable(f"{at}: {_reason(status)}{detail}", status=status)
            error.retry_after, error.billed = retry_after(headers), status in _MAYBE_BILLED
            return error
        return InvalidRequest(f"{at}: the request is refused as it is{detail}", status=status)

    def unreachable(self, reason: str) -> ProviderUnavailable:
        """Nothing was sent: refused, no such host, no TLS."""
        clean = self._clean(reason)
        return ProviderUnavailable(
            f"{self.name}: no connection to {self.host}: is the server running, and base_url right?{clean}"
        )

    def cut(self, reason: str) -> ProviderUnavailable:
        """The connection ended after the request may have been sent, so it may be charged for."""
        error = ProviderUnavailable(f"{self.name}: {self.host} cut the connection{self._clean(reason)}")
        error.billed = True
        return error

    def timed_out(self, seconds: float) -> CallTimeout:
        return CallTimeout(f"{self.name}: no complete answer from {self.host} in {seconds:g} s; raise timeout_s")

    def malformed(self, reason: str, body: str = "") -> MalformedResponse:
        text = f"{self.name}: the answer of {self.host} is not its protocol's: {reason}; check provider and base_url"
        return MalformedResponse(text + self._clean(body))

    def inside_answer(self, error: Any) -> ProviderError:
        """An error object that came with status 200, as gateways and streams send it."""
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        made = self.status(status, {}, json.dumps({"error": error}))
        if isinstance(made, ProviderUnavailable):
            made.billed = True
        return made

    def _clean(self, text: str) -> str:
        short = " ".join(redact(text, self.secrets).split())
        if len(short) > _SHOWN:
            short = short[:_SHOWN] + " ..."
        return f": {short}" if short else ""


def error_of(body: str) -> tuple[str, frozenset[str]]:
    """The message and the codes of an error body, in the shapes that servers use; the body itself if it is none."""
    try:
        data = json.loads(body)
    except ValueError:
        return body, frozenset()
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return body, frozenset()
    inner = data.get("error", data)
    if isinstance(inner, str):
        return inner, frozenset()
    if not isinstance(inner, dict):
        return body, frozenset()
    codes = frozenset(code for code in (inner.get("code"), inner.get("type")) if isinstance(code, str))
    said = inner.get("message") or inner.get("detail") or body
    return said if isinstance(said, str) else json.dumps(said), codes


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait before the next attempt, from the headers in use; None when none says so."""
    lower = {name.lower(): value.strip() for name, value in headers.items()}
    if (milliseconds := _number(lower.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if (wanted := lower.get("retry-after")) is not None:
        seconds = _number(wanted)
        return seconds if seconds is not None else _until(wanted, lower.get("date"))
    resets = {name: value for name, value in lower.items() if name.startswith("x-ratelimit-reset")}
    used_up = [
        value for name, value in resets.items() if lower.get(name.replace("-reset", "-remaining")) in ("0", "0.0")
    ]
    waits = [wait for value in used_up or resets.values() if (wait := _reset(value)) is not None]
    return (max(waits) if used_up else min(waits)) if waits else None


def _reset(value: str) -> float | None:
    """A duration such as `6m0s` or `20ms`, seconds, or a moment in seconds or milliseconds since the epoch."""
    number = _number(value)
    if number is None:
        parts = _DURATION.findall(value)
        return sum(float(count) * _UNIT_S[unit] for count, unit in parts) if parts else None
    if number > 1e12:
        number /= 1000
    return max(0.0, number - time.time()) if number > 1e9 else number


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


def _until(moment: str, server_now: str | None) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it tells its time."""
    try:
        then = parsedate_to_datetime(moment)
        now = parsedate_to_datetime(server_now).timestamp() if server_now else time.time()
    except ValueError:
        return None
    if then.tzinfo is None:
        then = then.replace(tzinfo=UTC)
    return max(0.0, then.timestamp() - now)


def _reason(status: int) -> str:
    return "the server is overloaded" if status in (503, 529) else "the server failed"
