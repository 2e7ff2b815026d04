"""From the body of a synth-ai job to a job file and the task app it runs in. Pure.

The job file already knows the names that the SDK uses (`rollouts.experiments.config_compat`). What is different here:
the task app and its seeds stand among the settings, unknown keys are carried along by the SDK and so cannot be errors,
and some defaults are the SDK's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.experiments.config import JobConfig
from rollouts.experiments.config_base import Table, items_of, names_of, table_of
from rollouts.experiments.config_convert import to_endpoint, to_proposer
from rollouts.experiments.config_errors import is_secret
from rollouts.experiments.config_keys import JOB
from rollouts.experiments.loading import parse_config
from rollouts.service.synth.seeds import Pools, pools_of

JSON = dict[str, Any]
ALGORITHMS = ("mipro", "gepa")
SECTIONS = (JOB, "policy_optimization")

_URLS = ("task_app_url", "localapi_url", "local_api_url")
_ONLINE_OPTIONS = ("online_proposer_mode", "online_proposer_min_rollouts")
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "policy": {"temperature": 0.0, "max_completion_tokens": 512},
    "mipro": {"num_iterations": 20, "minibatch_size": 32, "bootstrap_threshold": 0.8},
}
_MANY = 400_000
"""Live rollouts of a job that names no number: as many as its log has room for."""
_DROPPED = {
    "results_folder": "results are read from the service",
    "display": "what is shown is chosen by the client",
    "env_file_path": "the service reads no .env file of a client",
}
_QUIET = frozenset({"id", "name", "inference_mode"})
"""Keys that every client writes and that say nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthJob:
    """A job as the service takes it.

    `models` are the models that it names, by the tables that name them. `config` is a job file, `task_app` what
    `POST /api/v1/jobs` takes under that name; without seeds they are drawn. `app_key` is the task app's key where it
    came in clear. `warnings` tell what was accepted without effect. `online` holds the settings of online mode, None
    for an ordinary job.
    """

    algorithm: str
    models: Mapping[str, Endpoint]
    config: JSON
    task_app: JSON
    app_key: str | None
    warnings: tuple[str, ...]
    online: Mapping[str, Any] | None = None


def translate(body: Mapping[str, Any], *, live: bool = False) -> SynthJob:
    """The job that a create request of SDK 0.4 or 0.7 asks for: `algorithm`, `config_body`, `overrides`.

    `live` says that it is one of online mode, whatever `mipro.mode` says. Raises ConfigError that lists what is wrong.
    """
    section = _section(body)
    warnings = [f"{name} has no effect here: {why}" for name, why in _DROPPED.items() if section.pop(name, None)]
    if body.get("auto_start") is False:
        warnings.append("auto_start has no effect here: a job starts when there is room for it")
    algorithm = section["algorithm"] = _algorithm(body, section)
    search = section[algorithm] = _table(section, algorithm)
    url = next((url for name in _URLS if (url := section.pop(name, None))), None)
    key = section.pop("task_app_api_key", None)
    if live:
        search["mode"] = "online"
    online = _online(search)
    if online is not None:
        _without_cap(section)
    _instruction_only(search)
    task_app = {"url": url, "env": _env(section, search), **_seeds(pools_of(section, algorithm), warnings)}
    config = {JOB: dict(_known(_Place(JobConfig, JOB), section, warnings))}
    for name in ("policy", algorithm):
        _fill(config[JOB], name)
    loaded = parse_config(config, source="job", remote=True)
    if not isinstance(url, str) and online is None:
        raise ConfigError(f"job: {JOB}.task_app_url: missing; give the http(s) address of the task app")
    return SynthJob(
        algorithm=algorithm,
        models={"policy": to_endpoint(loaded.config), "proposer": to_proposer(loaded.config)},
        config=config,
        task_app=task_app,
        app_key=str(key) if key else None,
        warnings=(*warnings, *loaded.notes),
        online=online,
    )


def _section(body: Mapping[str, Any]) -> JSON:
    """The job's own table, a copy of it with the overrides put in."""
    config = body.get("config_body")
    if not isinstance(config, Mapping):
        raise ConfigError(f"config_body: missing; it is a table with the key {JOB}")
    found = next((name for name in SECTIONS if isinstance(config.get(name), Mapping)), None)
    if found is None:
        raise ConfigError(f"config_body: has neither {' nor '.join(SECTIONS)}; put the job's settings there")
    section: JSON = _copy(config[found])
    overrides = body.get("overrides") or {}
    if not isinstance(overrides, Mapping):
        raise ConfigError("overrides: expected a table of dotted keys")
    for key, value in overrides.items():
        path = key.split(".")
        _put(section, path[1:] if path[0] in SECTIONS else path, value)
    return section


def _put(table: JSON, path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        if not isinstance(table.get(name), dict):
            table[name] = {}
        table = table[name]
    if path:
        table[path[-1]] = value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _copy(inner) for name, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


def _algorithm(body: Mapping[str, Any], section: Mapping[str, Any]) -> str:
    named = [name for name in (body.get("algorithm"), section.get("algorithm")) if name]
    if len(set(map(str, named))) > 1:
        raise ConfigError(f"algorithm: the request says {named[0]!r}, its settings say {named[1]!r}; make them agree")
    algorithm = str(named[0]) if named else ALGORITHMS[0]
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"algorithm: {algorithm!r} cannot run here; use {' or '.join(ALGORITHMS)}")
    return algorithm


def _table(section: Mapping[str, Any], name: str) -> JSON:
    found = section.get(name) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{JOB}.{name}: expected a table")
    return dict(found)


def _online(search: JSON) -> Mapping[str, Any] | None:
    """The settings of online mode, taken out of the search's table."""
    mode = search.pop("mode", None) or "offline"
    if mode not in ("online", "offline"):
        raise ConfigError(f"{JOB}: mode {mode!r} is not known; it is online or offline")
    if mode == "offline":
        return None
    return {name: search.pop(name) for name in _ONLINE_OPTIONS if name in search}


def _without_cap(section: JSON) -> None:
    """Live traffic does not stop by itself after the thousand rollouts of a job without a cap."""
    stop = section.setdefault("termination_config", {})
    if isinstance(stop, dict) and not {"budget", "max_rollouts"} & set(stop):
        stop["budget"] = _MANY


def _instruction_only(mipro: JSON) -> None:
    """`proposer.mode` says what ours says by `optimize_demos`."""
    proposer = mipro.get("proposer")
    if isinstance(proposer, Mapping) and proposer.get("mode") == "instruction_only":
        mipro["proposer"] = {name: value for name, value in proposer.items() if name != "mode"}
        mipro.setdefault("optimize_demos", False)


def _env(section: JSON, search: JSON) -> JSON:
    """What the app is told of its environment. Both tables lose the keys."""
    env: JSON = {}
    for table in (section, search):
        name, config = table.pop("env_name", None), table.pop("env_config", None)
        env |= {key: value for key, value in (("env_name", name), ("config", config)) if value}
    return env


def _seeds(pools: Pools, warnings: list[str]) -> JSON:
    seen = {*pools.train, *pools.val}
    test = [seed for seed in pools.test if seed not in seen]
    if len(test) < len(pools.test):
        warnings.append(
            f"{len(pools.test) - len(test)} test seeds are left out, because the search sees them: the verdict is made "
            "on seeds of its own"
        )
    warnings += pools.warnings
    return {"train_seeds": list(pools.train), "val_seeds": list(pools.val), "test_seeds": test}


@dataclass(frozen=True, slots=True)
class _Place:
    """A table of the job file, and where it stands."""

    table: type[Table]
    path: str

    def inner(self, name: str) -> _Place | None:
        """The table under a name; None where something else is."""
        path, field = f"{self.path}.{name}", names_of(self.table).get(name)
        if field is not None:
            info = self.table.model_fields[field]
            found = table_of(info) or items_of(info)
        elif name in self.table.moved:
            found = _moved(self.table.moved[name])
        else:
            found = self.table.foreign.get(name)
        return None if found is None else _Place(found, path)

    def knows(self, name: str) -> bool:
        """Whether the job file takes the name, if only to say that it has no effect."""
        table = self.table
        return any(name in names for names in (names_of(table), table.moved, table.no_effect, table.foreign))


def _moved(target: str) -> type[Table] | None:
    """The table at a dotted path of the job; None where something else is."""
    table: type[Table] | None = JobConfig
    for name in target.split("."):
        table = table_of(table.model_fields[name]) if table is not None else None
    return table


def _known(place: _Place, data: Mapping[str, Any], warnings: list[str]) -> Iterator[tuple[str, Any]]:
    """What the job file takes of a table; the rest is told in `warnings`, but for secrets, which it will refuse."""
    for name, value in data.items():
        inner = place.inner(name)
        if name in place.table.no_effect and (name in _QUIET or not value):
            continue
        if not place.knows(name) and not is_secret(name):
            warnings.append(f"{place.path}.{name} has no effect here: nothing of that name is known")
        elif inner is not None and isinstance(value, Mapping):
            yield name, dict(_known(inner, value, warnings))
        elif inner is not None and isinstance(value, list):
            items = [dict(_known(inner, item, warnings)) if isinstance(item, Mapping) else item for item in value]
            yield name, items
        else:
            yield name, value


def _fill(section: JSON, name: str) -> None:
    """The SDK's defaults of a table, where they are not ours."""
    place, table = _Place(JobConfig, JOB).inner(name), section.setdefault(name, {})
    if place is not None and isinstance(table, dict):
        given = {names_of(place.table).get(key) for key, value in table.items() if value is not None}
        table |= {field: value for field, value in _DEFAULTS.get(name, {}).items() if field not in given}
