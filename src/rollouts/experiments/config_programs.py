"""The tables below `[prompt_learning]` for tools and for programs of several modules."""

from __future__ import annotations

from dataclasses import fields

from pydantic import JsonValue

from rollouts.agents import AgentLimits
from rollouts.experiments.config_base import Table, setting
from rollouts.experiments.config_tables import ModelTable

_LIMITS = {field.name: field.default for field in fields(AgentLimits)}


class LimitsTable(Table):
    """How far an agent may go in one rollout."""

    max_turns: int = setting(
        _LIMITS["max_turns"], "Model calls; the last one is made without tools, so that it has to be the answer.", ge=1
    )
    max_repeats: int = setting(
        _LIMITS["max_repeats"],
        "Times that the same call may have the same result; then the next turn is the last.",
        ge=1,
    )
    max_parallel_tools: int = setting(
        _LIMITS["max_parallel_tools"], "Tool calls of one turn that run at the same time.", ge=1
    )
    max_output_chars: int = setting(
        _LIMITS["max_output_chars"], "Characters of one tool result that the model is shown.", ge=1
    )
    tool_timeout_s: float = setting(_LIMITS["tool_timeout_s"], "Seconds of one tool call.", gt=0)


class EnvironmentTable(Table):
    """The tools of the task: every rollout runs the tool loop on an environment of its own."""

    name: str = setting(
        ...,
        "`calculator`, `mcp` (a server's tools), or your own as `package.module:factory`, which is called with the "
        "inputs of the row and the options.",
        min_length=1,
    )
    options: dict[str, JsonValue] = setting(
        {}, "Options of the environment; for `mcp`: `command` or `url`, ...", kind="table of JSON values"
    )
    limits: LimitsTable = setting(LimitsTable(), "Limits of the tool loop.")


class ModuleModelTable(ModelTable):
    """The model of one module of the program, by the module's name. What it leaves out is as in `policy`."""

    provider: str | None = setting(None, "Provider of the module's model.", shown="the task model's", min_length=1)
    model: str | None = setting(None, "Model that runs the module.", shown="the task model", min_length=1)


class ProgramTable(Table):
    """A program of your own, of one module or several, instead of `initial_prompt`."""

    path: str = setting(
        ...,
        "The program as `package.module:attribute`: a `rollouts.Program`, or a function that returns one. Modules are "
        "looked for in the working directory, then beside this file.",
        kind='text of the form "package.module:attribute"',
        pattern=r"^[\w.]+:[\w.]+$",
    )
    models: dict[str, ModuleModelTable] = setting({}, "Models of single modules, by module name.")
