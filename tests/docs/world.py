"""The world that a page's blocks run in: a folder with data, a provider on this machine, the command line."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import urllib.request
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer

from rollouts.cli.app import app, run
from rollouts.datasets import DatasetSpec, load
from rollouts.experiments.loading import parse_config
from tests.docs.pages import ROOT, Block
from tests.docs.service import in_thread

TICKETS = {sample.inputs["ticket"]: str(sample.ground_truth) for sample in load(DatasetSpec(path="tickets"))}
KEYS = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "GROQ_API_KEY")
BELOW = 3
_TOOLS = {"git", "pip", "cd", "pytest", "ruff", "mypy", "lint-imports", "export", "source", "."}
_MODEL = re.compile(r"""["'/ ]local["'/ ]|\blocal/|ROLLOUTS_ENDPOINT=local""")


def reply(body: dict[str, Any]) -> str:
    """A model that routes tickets, better with demonstrations; that writes instructions; that judges."""
    *shown, last = body["messages"]
    system = shown[0]["content"] if shown and shown[0]["role"] == "system" else ""
    if system.startswith("You judge"):
        return json.dumps({"reason": "It is clear.", "score": 0.75})
    if system.startswith("You improve"):
        number = zlib.crc32(last["content"].encode()) % 97
        return f"<instruction>Find the one team that this ticket goes to, with rule {number}.</instruction>"
    text = next((line.partition(": ")[2] or line for line in last["content"].splitlines() if line), "")
    label = TICKETS.get(text.strip())
    if label is None:
        return "A short answer."
    right = zlib.crc32(text.encode()) % 100 < (90 if len(shown) > 1 else 60)
    return label if right else "unclear"


class World:
    """Runs blocks in `folder`. `model` says whether the embedded model may be used; else such lines are only parsed."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, base_url: str, *, model: bool) -> None:
        self.folder, self.model, self._patch = folder, model, patch
        self._services = contextlib.ExitStack()
        self.names: dict[str, Any] = {"__name__": "docs"}
        for name in (*KEYS, "ROLLOUTS_STORE", "ROLLOUTS_ENDPOINT"):
            patch.delenv(name, raising=False)
        patch.setenv("OPENAI_API_KEY", "any")
        patch.setenv("OPENAI_BASE_URL", base_url)
        patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        if "openai" not in sys.modules and find_spec("openai") is None:
            patch.setitem(sys.modules, "openai", SimpleNamespace(OpenAI=_OpenAI))
        with (folder / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "route"), *TICKETS.items()])

    def run(self, block: Block) -> None:
        """Writes, loads or executes the block, by its language; fails with page and line."""
        if block.file is not None:
            (self.folder / block.file).write_text(block.text, encoding="utf-8")
        match block.language:
            case "python":
                self._python(block)
            case "toml":
                data = tomllib.loads(block.text)
                if "prompt_learning" in data:
                    remote = "task_app_url" in data["prompt_learning"]
                    parse_config(data, source=block.where, base_dir=self.folder, remote=remote)
            case "json":
                json.loads(block.text)
            case "bash" | "console":
                for line, shown in commands(block):
                    self._line(block, line, shown)

    def check(self, block: Block) -> None:
        """What can be said of a block that is not run: its command lines must be possible ones."""
        for line, _ in commands(block) if block.language in ("bash", "console") else ():
            words = shlex.split(line, comments=True)
            if words[:1] == ["rollouts"]:
                parse(words[1:])

    def _python(self, block: Block) -> None:
        code = compile("\n" * block.line + block.text, str(block.page), "exec")
        if block.file is None and (self.model or not _MODEL.search(block.text)):
            exec(code, self.names)

    def _line(self, block: Block, line: str, shown: list[str]) -> None:
        for part in line.split(" && "):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                name, _, value = words.pop(0).partition("=")
                if name not in KEYS:
                    self._patch.setenv(name, value)
            if not words:
                continue
            where = f"{block.where}: {part}"
            if words[0] == "rollouts" and not re.search(r"[|<>;]", part):
                self._rollouts(words[1:], where, shown)
            elif words[0] in _TOOLS or words[0].startswith(("scripts/", ".venv/")):
                self._known(words, where)
            elif self.model or not _MODEL.search(f" {part} "):
                script = part.replace("examples/", f"{ROOT}/examples/")
                shell = ["bash", "-euo", "pipefail", "-c", script]
                done = subprocess.run(shell, capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{where}: {done.returncode}\n{done.stdout}\n{done.stderr}"

    def _rollouts(self, words: list[str], where: str, shown: list[str]) -> None:
        parse(words)
        demo = _is_demo(["rollouts", *words])
        if words[0] == "serve":
            self._serve()
        if words[0] in ("serve", "serve-model", "task-app"):
            return
        if not self.model and (demo or _MODEL.search(" ".join(["", *words, ""]))):
            return
        if demo and "--budget" not in words:
            words = [*words, "--budget", "20"]  # the whole demo takes minutes
        out, errors = io.StringIO(), io.StringIO()
        self._patch.setattr("sys.stdin", io.StringIO("\n" * 20))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            code = run(words)
        allowed = (0, BELOW) if "--fail-under" in words else (0,)
        assert code in allowed, f"{where}: exit code {code}\n{out.getvalue()}\n{errors.getvalue()}"
        if "--dry-run" in words:
            real = _squeezed(out.getvalue())
            for text in shown:
                assert _squeezed(text) in real, f"{where}: the page shows {text!r}, the program says\n{out.getvalue()}"

    def _serve(self) -> None:
        """The rest of the page has a service, and a key that may do everything."""
        url, key = self._services.enter_context(in_thread(self.folder))
        self._patch.setenv("ROLLOUTS_URL", url)
        self._patch.setenv("ROLLOUTS_API_KEY", key)

    def close(self) -> None:
        """Ends what the page has started."""
        self._services.close()

    def _known(self, words: list[str], where: str) -> None:
        """Commands that are not run: their scripts and extras must be there."""
        for word in words:
            if word.startswith("scripts/"):
                assert os.access(ROOT / word, os.X_OK), f"{where}: no script {word}"
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for listed in re.findall(r"\[([\w,]+)\]", " ".join(words)):
            assert set(listed.split(",")) <= set(extras), f"{where}: an extra of [{listed}] does not exist"


class _OpenAI:
    """As much of `openai.OpenAI` as the pages use, where that package is not installed."""

    def __init__(self) -> None:
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self._create))

    @staticmethod
    def _create(**body: Any) -> SimpleNamespace:
        request = urllib.request.Request(
            f"{os.environ['OPENAI_BASE_URL']}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response, object_hook=lambda found: SimpleNamespace(**found))


def commands(block: Block) -> list[tuple[str, list[str]]]:
    """(command, the output that the page shows for it); in `console` blocks commands begin with `$ `."""
    out: list[tuple[str, list[str]]] = []
    for line in block.text.replace("\\\n", " ").splitlines():
        line = re.sub(r"\s+#\s.*$", "", line)
        if block.language == "bash":
            if line.strip() and not line.lstrip().startswith("#"):
                out.append((line.strip(), []))
        elif line.startswith("$ "):
            out.append((line.removeprefix("$ "), []))
        elif line.strip() and out:
            out[-1][1].append(line)
    return out


def uses_model(block: Block) -> bool:
    """Whether some of the block runs only where the embedded model may."""
    if block.skipped or block.file is not None:
        return False
    if block.language == "python":
        return bool(_MODEL.search(block.text))
    lines = [line for line, _ in commands(block)] if block.language in ("bash", "console") else []
    return any(_MODEL.search(f" {line} ") or _is_demo(shlex.split(line)) for line in lines)


def _is_demo(words: Sequence[str]) -> bool:
    return list(words[:2]) == ["rollouts", "demo"] and "--dry-run" not in words


def parse(words: list[str]) -> None:
    """Raises when the command line does not know a command or an option."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("rollouts", list(words))
    while hasattr(command, "commands"):
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(command.name, rest, parent=context)


def _squeezed(text: str) -> str:
    """Without frames, spaces and amounts of money, which depend on the price list."""
    return re.sub(r"\$[\d.,]+", "$", re.sub(r"[^\w.,:$+'/]+", " ", text)).strip()
