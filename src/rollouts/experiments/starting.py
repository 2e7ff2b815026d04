"""The program that a job improves: its prompt, or a program of the user's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from rollouts.dtypes import Program, PromptTemplate, as_program
from rollouts.errors import ConfigError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_convert import to_template
from rollouts.experiments.near_names import did_you_mean
from rollouts.imports import import_object


def make_importable(job: JobConfig, base_dir: Path) -> None:
    """Where the job names code of the user's own, modules beside the job file can be imported from now on, after those
    of the working directory."""
    named = (job.score.metric, job.program and job.program.path, job.environment and job.environment.name)
    place, here = str(base_dir), os.getcwd()
    if place not in sys.path and any(":" in (name or "") for name in named):
        before = [n for n, entry in enumerate(sys.path) if entry in ("", here)]
        sys.path.insert(before[0] + 1 if before else 0, place)


def to_start(job: JobConfig) -> Program:
    """The starting program. Raises ConfigError where `program.path` names none, or where the job sets a model, a budget
    or a limit for a module, or freezes a text, that the program does not have."""
    start = Program.single(to_template(job)) if job.program is None else _named(job.program.path)
    _check_modules(job, start)
    if job.program is None:
        return start
    texts = [text for template in start.modules.values() for text in (template.system, template.user_template)]
    for span in job.initial_prompt.frozen:
        if not any(span in text for text in texts):
            raise ConfigError(f"prompt_learning.initial_prompt.frozen: {span!r} does not stand in the program")
    return start


def _check_modules(job: JobConfig, start: Program) -> None:
    tables: dict[str, Mapping[str, object]] = {
        "program.models": {} if job.program is None else job.program.models,
        "termination_config.modules": job.termination_config.modules,
        "constraints.modules": job.constraints.modules,
    }
    for key, named in tables.items():
        for name in named:
            if name not in start.modules:
                hint = did_you_mean(name, start.modules)
                raise ConfigError(
                    f"prompt_learning.{key}.{name}: the program has no such module{hint} "
                    f"Its modules: {', '.join(start.modules)}"
                )


def _named(path: str) -> Program:
    found = import_object(path)
    if not isinstance(found, Program | PromptTemplate) and callable(found):
        found = found()
    if not isinstance(found, Program | PromptTemplate):
        raise ConfigError(
            f"prompt_learning.program.path: {path!r} is a {type(found).__name__}, not a rollouts.Program or a function "
            "that returns one"
        )
    return as_program(found)
