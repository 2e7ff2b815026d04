"""The examples of docs/client.md, against a service."""

from __future__ import annotations

import asyncio

import pytest

from tests.docs.pages import ROOT, blocks
from tests.service.conftest import Service, provider, service, start

__all__ = ["provider", "service", "start"]


async def test_the_examples_run(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ROLLOUTS_URL", service.url)
    monkeypatch.setenv("ROLLOUTS_API_KEY", service.key)
    examples = [block for block in blocks(ROOT / "docs" / "client.md") if block.language == "python"]
    for block in examples:
        code = compile(block.text, str(block.page), "exec")
        await asyncio.to_thread(exec, code, {})
    out = capsys.readouterr().out
    assert len(examples) == 2
    assert "succeeded" in out
    assert "{'role': 'user', 'content': 'Ticket: {text}'}" in out
