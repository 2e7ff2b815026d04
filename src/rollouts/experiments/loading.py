"""Reads a job file: TOML, overrides from the command line, then every problem of the file at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rollouts.errors import ConfigError
from rollouts.experiments.config import ConfigFile, JobConfig
from rollouts.experiments.config_base import Path as Keys
from rollouts.experiments.config_base import names_of
from rollouts.experiments.config_checks import check
from rollouts.experiments.config_convert import located
from rollouts.experiments.config_errors import Problem, config_error, dotted, from_pydantic, without_secrets
from rollouts.experiments.config_keys import ALGORITHMS, JOB, Settings

DEFAULT_BUDGET = 1000
_LIMITS = "termination_config"
_CAPS = ("budget", "max_calls", "max_tokens", "max_cost_usd")
_PATHS = {
    *((JOB, "dataset", name) for name in ("path", "data_dir", "train_path", "val_path", "test_path")),
    (JOB, "score", "schema_path"),
}
_POSITION = re.compile(r"^(?P<what>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedConfig:
    """A job that passed every check.

    `path` is the file it came from, None for settings given as a mapping; paths of the data set are relative to
    `base_dir`. `overrides` were laid over it. `notes` tell the user what was accepted without effect and what was
    filled in for safety.
    """

    config: JobConfig
    path: Path | None
    base_dir: Path
    overrides: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def resolved(self) -> dict[str, Any]:
        """All settings with defaults filled in, as JSON values, for storing with the run, and under `caps` the
        overrides that set limits. Holds no secret: see `without_secrets`."""
        caps = [text for text in self.overrides if f"{_LIMITS}." in text.partition("=")[0]]
        settings = without_secrets(self.config.model_dump(mode="json", exclude_none=True))
        return {JOB: settings} | ({"caps": caps} if caps else {})

    def under(self, caps: Sequence[str]) -> LoadedConfig:
        """The same job file with these overrides below its own: those that a run was started with."""
        if not caps or self.path is None:
            return self
        return load_config(self.path, [*caps, *self.overrides])


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> LoadedConfig:
    """Reads a job file.

    `overrides` are `key=value` texts, the key dotted and below `prompt_learning` (the prefix may stand there), the
    value as TOML, or as plain text where it is no TOML. Paths in the file are relative to the file; paths in overrides
    and `results_folder` are relative to the working directory.

    Raises ConfigError that lists everything wrong with the file, one line for each problem.
    """
    path = Path(path)
    return _load(read_file(path), overrides, source=str(path), path=path, base_dir=path.resolve().parent)


def read_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, unchecked. Raises ConfigError, for wrong TOML with the place in the file."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is no UTF-8 text (byte {error.start}); save it as UTF-8") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax(str(path), text, str(error))) from None


def parse_config(
    data: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    source: str = "configuration",
    base_dir: Path | None = None,
    remote: bool = False,
) -> LoadedConfig:
    """`load_config` for settings that are parsed already, such as the JSON body of a request.

    `data` holds the table `prompt_learning`; None values count as not given. `source` names it in messages; paths are
    relative to `base_dir`, by default the working directory. `remote` says that the task runs in a task app, which
    takes the place of data set and metric.
    """
    return _load(data, overrides, source=source, path=None, base_dir=base_dir or Path.cwd(), remote=remote)


def _load(
    data: Mapping[str, Any],
    overrides: Sequence[str],
    *,
    source: str,
    path: Path | None,
    base_dir: Path,
    remote: bool = False,
) -> LoadedConfig:
    settings = _gathered(data, overrides)
    if not settings.problems and JOB not in settings.values:
        settings.problems.append(Problem(key=JOB, message=f"missing; a job file has the table [{JOB}]"))
    _fill(settings, path)
    config, problems = _validated(settings)
    if config is not None and not problems:
        problems = _renamed(check(config, remote=remote), settings)
    problems = settings.problems + problems
    if problems or config is None:
        raise config_error(source, problems)
    if config.task_app_url is not None and not remote:
        settings.notes.append(f"{JOB}.task_app_url has no effect here: the task runs on the data set")
    return LoadedConfig(
        config=config,
        path=path,
        base_dir=base_dir,
        overrides=tuple(overrides),
        notes=tuple(dict.fromkeys(settings.notes)),
    )


def _gathered(data: Mapping[str, Any], overrides: Sequence[str], algorithm: str = "") -> Settings:
    """All keys; read twice, because the search that is not run has no say, and any of them may name the other one."""
    settings = Settings(algorithm)
    settings.add_file(data)
    for text in overrides:
        _override(settings, text)
    if algorithm:
        return settings
    job = settings.values.get(JOB)
    chosen = job.get("algorithm") if isinstance(job, dict) else None
    return _gathered(data, overrides, chosen if chosen in ALGORITHMS else ALGORITHMS[0])


def _validated(settings: Settings) -> tuple[JobConfig | None, list[Problem]]:
    try:
        return ConfigFile.model_validate(settings.values).prompt_learning, []
    except ValidationError as error:
        return None, from_pydantic(error, ConfigFile, settings.values, settings.written)


def _renamed(problems: list[Problem], settings: Settings) -> list[Problem]:
    """The problems with keys as the user wrote them."""
    names = {dotted(path): text for path, text in settings.written.items()}
    return [Problem(key=names.get(problem.key, problem.key), message=problem.message) for problem in problems]


def _fill(settings: Settings, path: Path | None) -> None:
    """Defaults that depend on more than one setting: a cap where none is set, the run's name, the results folder."""
    job = settings.values.get(JOB)
    if not isinstance(job, dict):
        return
    stop = job.setdefault(_LIMITS, {})
    if isinstance(stop, dict) and not any(name in stop for name in _CAPS):
        stop["budget"] = DEFAULT_BUDGET
        settings.notes.append(
            f"no cap on rollouts, calls, tokens or dollars is set: the run stops after {DEFAULT_BUDGET} rollouts "
            f"({JOB}.termination_config.budget)"
        )
    name = job.setdefault("name", path.stem if path is not None else "job")
    if isinstance(name, str):
        job.setdefault("results_folder", str(Path("results") / re.sub(r"[^\w.-]+", "_", name)))


def _override(settings: Settings, text: str) -> None:
    key, equals, value = text.partition("=")
    try:
        path = _keys(tomllib.loads(f"{key} = 0")) if equals and key.strip() else ()
    except tomllib.TOMLDecodeError:
        path = ()
    if not path:
        settings.problems.append(Problem(key="--set", message=f"{key!r}: write key=value, for example seed=1"))
        return
    if path[0] not in {*names_of(ConfigFile), *ConfigFile.no_effect}:
        path = (JOB, *path)
    settings.add_override(path, _value(value.strip()), _from_working_directory)


def _keys(nested: Any) -> Keys:
    path: list[str] = []
    while isinstance(nested, dict):
        ((key, nested),) = nested.items()
        path.append(key)
    return tuple(path)


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return parsed["value"] if set(parsed) == {"value"} else text


def _from_working_directory(path: Keys, value: Any) -> Any:
    return located(value, Path.cwd()) if path in _PATHS and isinstance(value, str) else value


def _syntax(source: str, text: str, message: str) -> str:
    match = _POSITION.match(message)
    if match is None:
        return f"{source}: is no valid TOML: {message}"
    line, column = match["line"], match["column"]
    if line is None:
        line, column = str(text.count("\n") + 1), str(len(text.rpartition("\n")[2]) + 1)
    return f"{source}: line {line}, column {column}: is no valid TOML: {match['what']}"


__all__ = ["DEFAULT_BUDGET", "LoadedConfig", "load_config", "parse_config", "read_file"]
