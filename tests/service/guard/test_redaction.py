"""Logs without secrets."""

from __future__ import annotations

import io
import logging
import logging.config
from collections.abc import Iterator

import pytest

from rollouts.service.guard import LogFilter, hide, logging_config

KEY = "rk_0123456789ab_" + "Zz09_-x" * 6 + "A"
SECRET = "planted-environment-key"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {KEY}.", "key rk_0123456789ab_[redacted]."),
        (f"Authorization: Bearer {SECRET}", "Authorization: Bearer [redacted]"),
        ("{'x-api-key': 'any-key'}", "{'x-api-key': '[redacted]'}"),
        ("[(b'x-api-key', b'any-key'), (b'a', b'b')]", "[(b'x-api-key', b'[redacted]'), (b'a', b'b')]"),
        ("X-API-Key: any-key", "X-API-Key: [redacted]"),
        ("authorization: bearer any-key", "authorization: bearer [redacted]"),
        ("the X-API-Key header is missing", "the X-API-Key header is missing"),
        ('"POST /api/interceptor/v1/t-1/trace_t-1/chat/completions" 200', '"POST /api/interceptor/v1/[redacted]" 200'),
        ("GET /api/interceptor/v1/trace/by-correlation/trace_t-1", "GET /api/interceptor/v1/[redacted]"),
        (f"the app said {SECRET}", "the app said [redacted]"),
        ("GET /api/v1/jobs/pl_0123456789abcdef", "GET /api/v1/jobs/pl_0123456789abcdef"),
    ],
)
def test_secrets_are_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert hide(text, [SECRET]) == shown
    assert hide(shown, [SECRET]) == shown


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.addFilter(LogFilter(lambda: [SECRET]))
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("rollouts.test_redaction")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, out
    logger.removeHandler(handler)


def test_a_record_is_clean_wherever_the_secret_was(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, out = log
    logger.warning(f"in the text {SECRET}")
    logger.warning("in the arguments %s %d %.1f", SECRET, 7, 0.5)
    logger.warning("in a dict %(key)s", {"key": SECRET})
    logger.warning("in an object %s", {"key": KEY})
    logger.warning("Bearer %s", "any-key")
    with_too_few = "too few %s %s %s"
    logger.warning(with_too_few, SECRET)
    logger.warning(ValueError(SECRET))
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("in a traceback")
    text = out.getvalue()
    assert SECRET not in text
    assert KEY not in text
    assert "any-key" not in text
    assert "[redacted] 7 0.5" in text
    assert "ValueError: [redacted]" in text
    assert "too few %s %s %s" in text
    assert text.count("[redacted]") == 7


def test_uvicorns_logging_goes_through_the_filter(capfd: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    names = ("uvicorn", "uvicorn.error", "uvicorn.access")
    try:
        logging.config.dictConfig({**logging_config(lambda: [SECRET]), "incremental": False})
        logging.getLogger("uvicorn.access").info(
            '%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", f"/x?key={KEY}", "1.1", 200
        )
        logging.getLogger("uvicorn.error").error("failed: %s", SECRET)
        logging.getLogger("aiohttp.client").warning("Bearer abc")
    finally:
        for name in names:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    out, err = capfd.readouterr()
    assert "[redacted]" in out
    assert err.count("[redacted]") == 2
    assert not any(secret in out + err for secret in (KEY, SECRET, "abc"))
