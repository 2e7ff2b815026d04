"""The settings of `rollouts serve`: defaults, then a TOML file, then the environment, then the command line."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.experiments.config_compat import OTHER_NAMES
from rollouts.experiments.config_convert import endpoint_of
from rollouts.experiments.config_errors import nearest
from rollouts.experiments.config_tables import ModelTable
from rollouts.experiments.job import DEFAULT_STORE
from rollouts.experiments.loading import read_file

PREFIX = "ROLLOUTS_SERVE_"


class ServiceSettings(BaseModel):
    """How a service runs. Sizes are in bytes, times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    public_url: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="Address at which task apps reach the service; by default that of host and port.",
    )
    store: str = Field(default=DEFAULT_STORE, min_length=1, description="SQLite file or PostgreSQL URL.")
    key_file: Path | None = Field(
        default=None,
        description="File with the key that seals environment keys; by default `<store>.key` beside an SQLite file.",
    )
    results_dir: Path = Field(
        default=Path(".rollouts/jobs"),
        description="Folder with a folder for each job: its inline rows, its result files.",
    )
    data_dir: Path | None = Field(
        default=None,
        description="Folder below which jobs may name files; none without it. Built-in data sets are looked for here.",
    )
    slots: int = Field(default=32, ge=1, description="Rollouts in flight at once, over all jobs.")
    max_jobs: int = Field(default=32, ge=1, description="Jobs that run at once; more wait in the queue.")
    max_queued: int = Field(default=1000, ge=1, description="Jobs of one owner that may wait or run; more are refused.")
    max_rows: int = Field(default=100_000, ge=1, description="Most inline rows of a job.")
    max_body_bytes: int = Field(default=8 * 2**20, ge=1024, description="Largest request body.")
    body_timeout_s: float = Field(
        default=30.0, gt=0, description="Within this the head of a request, and then its body, must have come."
    )
    grace_s: float = Field(
        default=30.0, ge=0, description="What is in flight may take so long to end when a job is paused or cancelled."
    )
    heartbeat_s: float = Field(
        default=15.0, gt=0, description="Silence after which an event stream says that it is alive."
    )
    allow_code: bool = Field(
        default=False,
        description="Jobs may name Python code of the server (metrics, programs, tools), MCP servers and patterns.",
    )
    allow_endpoints: bool = Field(
        default=False,
        description="Jobs may name addresses and key variables of models, so that the server's keys go there.",
    )
    allow_networks: tuple[str, ...] = Field(
        default=(),
        description="Networks, beside public addresses, that task apps and webhooks may be in: `10.0.0.0/8`.",
    )
    demo_keys: bool = Field(
        default=False,
        description="Whoever asks on this machine gets an API key of a few hours; `host` must be loopback then.",
    )
    models: dict[str, ModelTable] = Field(
        default={},
        description="What a job's `provider/model` means here: an address, a key variable, another model. `provider/*` "
        "and `*` stand for all that are not named.",
    )

    @field_validator("demo_keys")
    @classmethod
    def _for_this_machine(cls, wanted: bool, info: ValidationInfo) -> bool:
        host = info.data.get("host")
        if wanted and host is not None and not _is_loopback(host):
            raise PydanticCustomError(
                "demo_keys", "keys are given away on this machine only; leave it off, or set host to 127.0.0.1"
            )
        return wanted

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the service."""
        return _is_loopback(self.host)

    @property
    def url(self) -> str:
        """Where task apps reach the service, without a slash at the end."""
        if self.public_url is not None:
            return self.public_url.rstrip("/")
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - not bound here
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def resolve(self, named: Endpoint) -> Endpoint:
        """The endpoint that a job means by `named`: address, key and model as in `models`, sampling as in the job."""
        wanted = (named.name, f"{named.provider}/*", "*")
        known = {_canonical(name): table for name, table in self.models.items()}
        table = next((known[name] for name in wanted if name in known), None)
        return named if table is None else replace(endpoint_of(table), sampling=named.sampling)


def load_settings(
    path: Path | None = None, environment: Mapping[str, str] = os.environ, **flags: Any
) -> ServiceSettings:
    """The settings from a TOML file, `ROLLOUTS_SERVE_*` variables (values as in TOML, or plain text) and flags.

    Later ones win; flags that are None count as not given. `ROLLOUTS_STORE` is the store where nothing else names one.
    Raises ConfigError that names every wrong setting and where it came from.
    """
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}

    def add(source: str, given: Mapping[str, Any]) -> None:
        values.update(given)
        origins.update(dict.fromkeys(given, source))

    if "ROLLOUTS_STORE" in environment:
        add("ROLLOUTS_STORE", {"store": environment["ROLLOUTS_STORE"]})
    if path is not None:
        add(str(path), read_file(path))
    for name, text in environment.items():
        if name.startswith(PREFIX):
            add(name, {name.removeprefix(PREFIX).lower(): _value(text)})
    add("command line", {name: value for name, value in flags.items() if value is not None})
    try:
        return ServiceSettings(**values)
    except ValidationError as error:
        lines = [_problem(problem, origins) for problem in error.errors(include_url=False, include_input=False)]
        raise ConfigError("the service's settings are wrong:\n  " + "\n  ".join(lines)) from None


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _canonical(name: str) -> str:
    provider, slash, model = name.partition("/")
    return OTHER_NAMES.get(provider, provider) + slash + model


def _problem(problem: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    path = [str(key) for key in problem["loc"]]
    text = f"{'.'.join(path)} ({origins.get(path[0], 'default')}): {problem['msg']}"
    if problem["type"] != "extra_forbidden":
        return text
    guess = nearest(path[-1], ServiceSettings.model_fields if len(path) == 1 else ModelTable.model_fields)
    hint = f"; did you mean {guess!r}?" if guess else ""
    return f"{'.'.join(path)} ({origins.get(path[0], '')}): there is no such setting{hint}"


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
