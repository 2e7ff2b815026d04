"""Templates, programs and results in files. Everything is JSON: reading a file imports and executes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rollouts.dtypes import Program, PromptTemplate
from rollouts.dtypes.prompts import RunFn
from rollouts.errors import ConfigError
from rollouts.prompt_optimization.types import OptimizationResult

BEST_PROMPT = "best_prompt.json"
_RESULT = {"best", "population", "initial"}


def save(value: PromptTemplate | Program | OptimizationResult, path: str | Path) -> None:
    """Writes the JSON of a template, program or result. Raises ConfigError when the file cannot be written."""
    try:
        write_json(Path(path), value.to_json())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}; name another file") from None


def load_prompt(path: str | Path) -> PromptTemplate:
    """The prompt in a saved template or one-module program, in a `best_prompt.json`, or in a run's results folder; of a
    saved result the best one.

    Raises ConfigError when there is none, or when it was written by a newer version.
    """
    modules = load_program(path).modules
    if len(modules) != 1:
        raise ConfigError(f"{path}: holds a program of {len(modules)} modules; read it with load_program")
    return next(iter(modules.values()))


def load_program(path: str | Path, run: RunFn | None = None) -> Program:
    """As `load_prompt`, for programs of any number of modules; `run` is the function that runs them.

    A program whose file names a function of its own cannot be read without `run`: the name is never imported.
    """
    data = _read(Path(path))
    try:
        data = data["best"] if data.keys() >= _RESULT else data
        data = data.get("program", data)
        if "modules" not in data:
            data = {"modules": {"main": data}}
        modules = {name: _template(module).to_json() for name, module in dict(data["modules"]).items()}
        return Program.from_json({**data, "modules": modules}, run)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: holds no prompt that can be used: {error}") from None


def load_result(path: str | Path, run: RunFn | None = None) -> OptimizationResult:
    """The result that `save` wrote; `run` as in `load_program`. Raises ConfigError when there is none."""
    data = _read(Path(path))
    try:
        return OptimizationResult.from_json(data, run)
    except ConfigError as error:
        raise ConfigError(f"{path}: holds no result that can be used: {error}") from None


def write_json(path: Path, content: Any) -> None:
    """Writes beside the place and moves it there, so that a reader never sees half of a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Half of a character, as cut answers may hold, is written the way JSON has for it.
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    file = path / BEST_PROMPT if path.is_dir() else path
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{file}: is no JSON ({error}); give a best_prompt.json, or a template as JSON") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{file}: is no JSON object; give a best_prompt.json, or a template as JSON")
    return data


def _template(data: Mapping[str, Any]) -> PromptTemplate:
    """From a template, or from what `best_prompt.json` says of it."""
    found = data.get("template", data)
    return PromptTemplate.from_json({"system": "", **found})
