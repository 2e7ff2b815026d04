"""The examples of docs/client.md, against a service."""

from __future__ import annotations

import ast
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
    (printed,) = (line for line in out.splitlines() if line.startswith("[{'role'"))
    first, *_, last = ast.literal_eval(printed)
    assert first["role"] == "system"
    assert first["content"]
    assert last == {"role": "user", "content": "Ticket: {text}"}
