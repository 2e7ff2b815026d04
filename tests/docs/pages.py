"""Markdown pages taken apart: code blocks, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_FENCE = re.compile(r"^(\s*)```(\w*)\s*$")
_NOTE = re.compile(r"^<!--\s*(.*?)\s*-->$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6}\s+(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block. `note` is the HTML comment right before it: `not run: REASON` or `file: NAME`."""

    page: Path
    line: int
    language: str
    text: str
    note: str

    @property
    def where(self) -> str:
        """Page and line, as an editor takes them."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def skipped(self) -> bool:
        """Whether the page says that this block is not run, and why."""
        return bool(re.match(r"not run:\s*\S", self.note))

    @property
    def file(self) -> str | None:
        """The file that the block is: from its note, or from a first line `# name.ext`."""
        if self.note.startswith("file:"):
            return self.note.removeprefix("file:").strip()
        first = re.match(r"#\s*([\w/-]+\.(?:toml|py|csv))\b", self.text)
        return first[1] if first else None


def pages() -> list[Path]:
    """Every page that people read."""
    named = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [*named, *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "walkthroughs").rglob("*.md"))]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    out: list[Block] = []
    note, indent, language, start = "", "", "", 0
    body: list[str] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        if body is not None:
            if line.strip() == "```":
                text = "\n".join(body) + "\n"
                out.append(Block(page=page, line=start, language=language, text=text, note=note))
                note, body = "", None
            else:
                body.append(line.removeprefix(indent))
        elif fence := _FENCE.match(line):
            indent, language, start, body = fence[1], fence[2], number, []
        elif line.strip():
            comment = _NOTE.match(line.strip())
            note = comment[1] if comment else ""
    assert body is None, f"{page.name}:{start}: the block is never closed"
    return out


def prose(page: Path) -> str:
    """The page without its blocks."""
    return re.sub(r"^\s*```.*?^\s*```\s*$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def links(page: Path) -> list[str]:
    """The targets of the page's links that lead into the project."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    return [target for target in _LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """What `page#...` may name: the headings, as GitHub writes them."""
    headings = [match[1] for line in prose(page).splitlines() if (match := _HEADING.match(line))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
