"""Keeps secrets out of logs."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Iterable
from typing import Any

from rollouts.llm.keys import redact

_HIDDEN = "[redacted]"
_TAKEN_APART = "uvicorn.access"  # whose formatter reads the arguments one by one
_FORMS = (
    re.compile(r"(rk_[0-9a-f]{12}_)[A-Za-z0-9_-]+"),
    re.compile(r"((?i:bearer)\s+)[^\s'\",]+"),
    re.compile(r"((?i:x-api-key)['\"]?\s*[:=,]\s*b?['\"]?)[^\s'\",]+"),
    re.compile(r"(/api/interceptor/v1/)[^\s\"']+"),
)


def hide(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the `secrets`, API keys, what follows `Bearer`, and the trials that interceptor URLs name."""
    for form in _FORMS:
        text = form.sub(rf"\g<1>{_HIDDEN}", text)
    return redact(text, secrets)


class LogFilter(logging.Filter):
    """Hides secrets in a record's message, arguments and traceback. `secrets` gives those known at the time."""

    def __init__(self, secrets: Callable[[], Iterable[str]] = tuple) -> None:
        super().__init__()
        self._secrets = secrets

    def filter(self, record: logging.LogRecord) -> bool:
        secrets = tuple(self._secrets())
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = hide(record.exc_text, secrets)
        if record.name == _TAKEN_APART and isinstance(record.args, tuple):
            record.args = tuple(hide(part, secrets) if isinstance(part, str) else part for part in record.args)
        else:
            record.msg, record.args = hide(_message(record), secrets), ()
        return True


def _message(record: logging.LogRecord) -> str:
    """The record's text; without its arguments where they do not fit, since logging would print those as they are."""
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)


def logging_config(secrets: Callable[[], Iterable[str]] = tuple) -> dict[str, Any]:
    """Uvicorn's logging (`uvicorn.run(log_config=...)`), with a LogFilter before every handler, and all other loggers'
    warnings by the same way."""
    from uvicorn.config import LOGGING_CONFIG

    config: dict[str, Any] = copy.deepcopy(LOGGING_CONFIG)
    config["filters"] = {"hide": {"()": LogFilter, "secrets": secrets}}
    for handler in config["handlers"].values():
        handler["filters"] = ["hide"]
    config["root"] = {"handlers": ["default"], "level": "WARNING"}
    return config
