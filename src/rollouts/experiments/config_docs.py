"""The reference of the job file, made from the models: `docs/configuration.md` and a JSON schema for editors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rollouts.experiments.config import ConfigFile
from rollouts.experiments.config_base import (
    Path,
    Table,
    field_extra,
    items_of,
    named_of,
    names_of,
    table_of,
    type_in_words,
)
from rollouts.experiments.config_errors import dotted
from rollouts.experiments.config_keys import tables
from rollouts.llm.registry import PROVIDERS

_HEAD = """\
# Job files

A job file is TOML. Everything stands below `[prompt_learning]`; a data set, a task model and a prompt (or a
`program`) are required; where `dataset.inputs` names the columns to use, the prompt's user message may be left out.

```toml
[prompt_learning.dataset]
path = "tickets.csv"

[prompt_learning.initial_prompt]
system = "Classify the message."
user = "Message: {text}\\nLabel:"

[prompt_learning.policy]
provider = "openai"
model = "gpt-4.1-nano"
```

The search is MIPRO, or with `algorithm = "gepa"` GEPA, in which a model reads what went wrong, or with
`algorithm = "rmipro"` r-MIPRO, which divides the budget among the modules of a program. A task with tools names
an environment; a program of several modules is named by its import path, in place of the prompt:

```toml
[prompt_learning]
algorithm = "gepa"

[prompt_learning.dataset]
path = "questions.csv"

[prompt_learning.program]
path = "my_program:program"  # a rollouts.Program, or a function that returns one

[prompt_learning.program.models.find]  # one of its modules
model = "gpt-4.1-mini"

[prompt_learning.environment]
name = "calculator"
limits = { max_turns = 6 }

[prompt_learning.policy]
provider = "openai"
model = "gpt-4.1-nano"

[prompt_learning.gepa]
generations = 8
objective = ["score", "cost"]
```

- Paths are relative to the file that names them; `results_folder` and `store` are relative to the working directory.
- `--set key=value` overrides a setting: `--set mipro.num_iterations=30`. The key is dotted, with or without
  `prompt_learning`; the value is TOML, or plain text where it is no TOML. Paths in it are relative to the working
  directory.
- Keys and passwords never stand in the file: name the environment variable in `api_key_env`, or rely on the provider's
  own ([providers](#providers)), set in the environment or in `.env`.
- An unknown key is an error. All problems of a file are reported at once.
- `proposer` and `score.judge` take address and key from `policy` where they use the same provider.

This page is generated from the program's own models.
"""
_PROVIDERS_HEAD = """\
## Providers

The variables that hold a provider's key and its address; the first that is set counts. `api_key_env` and `base_url` go
before them. They are read from the environment, else from the nearest `.env`. `vllm`, `ollama`, `openai_compatible` and
any server on this machine need no key. A model on Azure is `azure/DEPLOYMENT`. Amazon Bedrock is asked at its
OpenAI-compatible address, `https://bedrock-mantle.REGION.api.aws/v1`, with a Bedrock API key. What is not listed is
reached by `provider = "openai_compatible"`, with `model` and `base_url`: a gateway, or the address of Vertex AI, whose
tokens are valid for an hour.
"""
_EXTRA_HEAD = """\
`extra` holds fields of the provider's own, which are put into every request (from Python, None takes a field out).
`messages`, `model`, `stream`, `n` and `best_of` are refused there. These names are settings and are not sent:
"""
_EXTRA = {
    "extra_headers": "A table of more headers of every request. Keys do not belong there: they would be stored.",
    "extra_query": "A table of more query parameters of every request.",
    "api_version": "Azure: asks the older `/openai/deployments/MODEL`, with this version.",
    "structured": "How the form of an answer is asked for: `json_schema`, `structured_outputs` (vLLM), `grammar` "
    "(llama.cpp) or `json_object`. By default what the provider is known to take.",
    "tool_protocol": '`"text"`: tools are called in the text, for servers that refuse requests with tools.',
}
_EMPTY: dict[str, Any] = {}


def config_json_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a job file as the loader takes it: aliases and keys without effect included."""
    schema = ConfigFile.model_json_schema()
    models: dict[str, type[Table]] = {table.__name__: table for _, table in _all_tables()}
    models[ConfigFile.__name__] = ConfigFile
    for name, definition in {ConfigFile.__name__: schema, **schema.get("$defs", _EMPTY)}.items():
        if name in models:
            _open_names(models[name], definition)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _open_names(table: type[Table], definition: dict[str, Any]) -> None:
    properties = definition["properties"]
    for name in table.model_fields:
        for word in ("aliases", "default_in_words", "kind"):
            properties[name].pop(word, None)
    for alias, name in names_of(table).items():
        if alias != name:
            properties[alias] = {**properties[name], "description": f"Another name of `{name}`.", "deprecated": True}
            properties[alias].pop("default", None)
    for key, target in table.moved.items():
        properties.setdefault(key, {"description": f"Stands in `prompt_learning.{target}` here.", "deprecated": True})
    for key, reason in table.no_effect.items():
        properties.setdefault(key, {"description": f"No effect: {reason}.", "deprecated": True})
    for key, inner in table.foreign.items():
        properties[key] = {"type": "object", "description": inner.__doc__, "deprecated": True, "properties": {}}
        properties[key]["additionalProperties"] = False
        _open_names(inner, properties[key])
    # A setting that may stand under another name is not missing when its own name is.
    aliased = {name for alias, name in names_of(table).items() if alias != name}
    if "required" in definition:
        definition["required"] = [name for name in definition["required"] if name not in aliased]


def config_markdown() -> str:
    """The text of `docs/configuration.md`."""
    parts = [_HEAD]
    for path, table in _all_tables():
        parts.append(_section(path, table))
    parts += [_providers(), _compatibility()]
    return "\n".join(parts)


def _all_tables() -> list[tuple[Path, type[Table]]]:
    """Every table with its path. Items of lists (as `name[]`) and tables that the user names (as `name.NAME`) follow
    the table that holds them."""
    found: list[tuple[Path, type[Table]]] = []
    for path, table in tables():
        found.append((path, table))
        for name, field in table.model_fields.items():
            inner = items_of(field)
            if inner is not None:
                found.append(((*path, f"{name}[]"), inner))
            named = named_of(field)
            if named is not None:
                found += tables((*path, name, "NAME"), named)
    return found


def _with_foreign() -> list[tuple[Path, type[Table]]]:
    """`_all_tables` and the tables of other tools inside them."""
    inside = [((*path, name), inner) for path, table in _all_tables() for name, inner in table.foreign.items()]
    return [*_all_tables(), *inside]


def _section(path: Path, table: type[Table]) -> str:
    lines = [f"## `{dotted(path)}`", "", " ".join((table.__doc__ or "").split()), ""]
    rows = [
        (
            f"`{name}`",
            _escape(type_in_words(table, name)),
            _default(field),
            _escape(field.description or ""),
            _also(field),
        )
        for name, field in table.model_fields.items()
        if table_of(field) is None and named_of(field) is None
    ]
    return "\n".join([*lines, *_grid(("key", "type", "default", "meaning", "other names"), rows), ""])


def _providers() -> str:
    rows = [
        (
            f"`{spec.name}`",
            ", ".join(f"`{name}`" for name in spec.key_env) or "none",
            ", ".join(f"`{name}`" for name in spec.base_url_env) or "none",
            f"`{spec.base_url}`" if spec.base_url else "in this process" if spec.wire == "local" else "none",
        )
        for spec in PROVIDERS.values()
    ]
    grid = _grid(("provider", "key", "address", "address without it"), rows)
    extra = _grid(("name in `extra`", "meaning"), [(f"`{name}`", meaning) for name, meaning in _EXTRA.items()])
    return "\n".join([_PROVIDERS_HEAD, *grid, "", _EXTRA_HEAD, *extra, ""])


def _compatibility() -> str:
    lines = [
        "## Keys of other tools",
        "",
        "Files of the synth-ai SDK load here. These keys stand elsewhere in our files and are taken as such:",
        "",
    ]
    moved = {
        (f"`{dotted((*path, key))}`", f"`prompt_learning.{target}`")
        for path, table in _with_foreign()
        for key, target in table.moved.items()
    }
    lines += _grid(("key", "is"), sorted(moved))
    lines += ["", "These are accepted and reported as having no effect:", ""]
    ignored: dict[str, list[str]] = {}
    every: list[tuple[Path, type[Table]]] = [((), ConfigFile), *_with_foreign()]
    for path, table in every:
        for key, reason in table.no_effect.items():
            ignored.setdefault(reason, []).append(f"`{dotted((*path, key))}`")
    rows = sorted((", ".join(keys), _escape(reason)) for reason, keys in ignored.items())
    return "\n".join([*lines, *_grid(("keys", "why"), rows), ""])


def _grid(head: tuple[str, ...], rows: list[Any]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def _default(field: FieldInfo) -> str:
    words = field_extra(field, "default_in_words")
    if words:
        return _escape(str(words))
    if field.is_required() or field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, tuple | Mapping) and not field.default:
        return "empty"
    return "empty" if field.default == "" else f"`{json.dumps(field.default)}`"


def _also(field: FieldInfo) -> str:
    return ", ".join(f"`{alias}`" for alias in field_extra(field, "aliases") or ())


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
