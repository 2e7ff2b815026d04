"""The pages tell the truth: their blocks run, their links lead somewhere, and every public name is written down."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from rollouts.cli.app import app
from rollouts.llm.registry import PROVIDERS
from rollouts.testing import MockProvider
from tests.docs.pages import ROOT, anchors, blocks, links, pages
from tests.docs.world import World, reply, uses_model

RUN = {"bash", "console", "python", "toml", "json", "sh"}
WITH_BLOCKS = [page for page in pages() if page.exists() and any(block.language in RUN for block in blocks(page))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def provider() -> Iterator[MockProvider]:
    with MockProvider.in_thread(reply=reply) as mock:
        yield mock


def run_page(page: Path, world: World) -> None:
    with contextlib.closing(world):
        for block in blocks(page):
            if block.skipped:
                world.check(block)
            else:
                world.run(block)


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name_of)
def test_the_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: MockProvider) -> None:
    run_page(page, World(tmp_path, monkeypatch, provider.base_url, model=False))


@pytest.mark.model
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if any(map(uses_model, blocks(page)))], ids=name_of)
def test_the_blocks_run_with_the_embedded_model(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: MockProvider
) -> None:
    run_page(page, World(tmp_path, monkeypatch, provider.base_url, model=True))


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{name_of(page)}: {link} leads nowhere"
        assert ROOT in target.parents, f"{name_of(page)}: {link} leads out of the project"
        assert not anchor or anchor in anchors(target), f"{name_of(page)}: {name_of(target)} has no heading #{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link.partition("#")[0]).resolve() for link in links(index)}
    assert {page for page in pages() if page.is_relative_to(index.parent)} - {index} <= linked


def test_every_example_is_linked() -> None:
    linked = {(page.parent / link.partition("#")[0]).resolve() for page in pages() for link in links(page)}
    programs = {path for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".mjs")}
    assert programs
    assert programs <= linked


def test_every_variable_of_a_provider_is_written_down() -> None:
    listed = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for spec in PROVIDERS.values():
        for name in (spec.name, *spec.key_env, *spec.base_url_env):
            assert f"`{name}`" in listed, f"docs/configuration.md lists no {name}"


@pytest.mark.parametrize("module", ["rollouts", "rollouts.prompt_optimization", "rollouts.testing"])
def test_every_public_name_is_written_down(module: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").rglob("*.md"))
    names = importlib.import_module(module).__all__
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


def walk(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*path, name))


COMMANDS = [entry for entry in walk(typer.main.get_command(app)) if not hasattr(entry[1], "commands") or not entry[0]]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) or "rollouts" for path, _ in COMMANDS])
def test_every_command_and_option_is_written_down(path: tuple[str, ...], command: Any) -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert all(re.search(rf"[` ]{re.escape(word)}[` ]", page) for word in path)
    for parameter in command.params:
        if parameter.param_type_name == "option" and not getattr(parameter, "hidden", False):
            shown = [name for name in parameter.opts if re.search(rf"[`\[ ]{re.escape(name)}(?![\w-])", page)]
            assert shown, f"docs/cli.md does not say what {parameter.opts} of {' '.join(path)!r} does"


# The tests of the tests: each must be able to fail.


def test_a_wrong_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: MockProvider) -> None:
    wrong = {
        "python": "import rollouts\nrollouts.optimise\n",
        "toml": "[prompt_learning.dataset]\npaht = 'x.csv'\n",
        "bash": "rollouts optimize nowhere.toml\n",
        "console": "$ rollouts optimize --no-such-option job.toml\n",
    }
    for language, text in wrong.items():
        page = tmp_path / f"{language}.md"
        page.write_text(f"# Page\n\n```{language}\n{text}```\n")
        monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
        world = World(tmp_path, monkeypatch, provider.base_url, model=False)
        (block,) = blocks(page)
        with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever it is, it must not pass
            world.run(block)


def test_a_block_is_skipped_only_with_a_reason(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    block = "```bash\nfalse\n```\n"
    page.write_text(f"<!-- not run: it needs a cluster -->\n{block}\n<!-- not run: -->\n{block}")
    assert [block.skipped for block in blocks(page)] == [True, False]
