"""Takes a job in the SDK's form: translated, its models known, its app's key put away, and submitted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

from rollouts.dtypes import Endpoint
from rollouts.errors import ConfigError
from rollouts.experiments.config_keys import JOB
from rollouts.llm.keys import address_of, key_of
from rollouts.service.jobs import OWN_KEY, JobRow
from rollouts.service.online import OnlineOptions
from rollouts.service.settings import ServiceSettings
from rollouts.service.state import ServiceState
from rollouts.service.synth.config import SynthJob, translate
from rollouts.service.synth.events import SYNTH
from rollouts.service.synth.names import Family


async def submit(
    state: ServiceState, body: Mapping[str, Any], owner: str, family: Family, *, live: bool = False
) -> JobRow:
    """The job, checked and queued; one of online mode where `live` or the body says so.

    Raises RolloutsError that says what to change.
    """
    job = await asyncio.to_thread(_checked, body, state.settings, live)
    config: dict[str, Any] = {"config": job.config, SYNTH: {"family": family, "warnings": list(job.warnings)}}
    if job.online is not None:
        return await state.engine.submit("online", {**config, "online": online_options(job)}, owner=owner)
    if job.app_key is None:
        return await state.engine.submit("task_app", {**config, "task_app": job.task_app}, owner=owner)
    name = f"{OWN_KEY}{secrets.token_hex(8)}"
    await asyncio.to_thread(state.env_keys.put, owner, name, job.app_key)
    try:
        config["task_app"] = {**job.task_app, "key_name": name}
        return await state.engine.submit("task_app", config, owner=owner)
    except BaseException:
        await asyncio.to_thread(state.env_keys.remove, owner, name)
        raise


def _checked(body: Mapping[str, Any], settings: ServiceSettings, live: bool) -> SynthJob:
    try:
        job = translate(body, live=live)
    except RecursionError:
        raise ConfigError("config_body: nested too deeply") from None
    known_models(job, settings)
    return job


def online_options(job: SynthJob) -> dict[str, Any]:
    """`OnlineOptions` as JSON. Raises ConfigError for what cannot be one."""
    given = job.online or {}
    rollouts = given.get("online_proposer_min_rollouts") or OnlineOptions.min_rollouts
    if type(rollouts) is not int or rollouts < 1:
        raise ConfigError("mipro.online_proposer_min_rollouts: expected a whole number of at least 1")
    return {"min_rollouts": rollouts, "propose": given.get("online_proposer_mode") != "none"}


def known_models(job: SynthJob, settings: ServiceSettings) -> None:
    """Raises ConfigError for a model that neither the settings know nor the server has address and key for."""
    for table, named in job.models.items():
        if settings.resolve(named) == named and not _usable(named):
            known = ", ".join(sorted(settings.models)) or "none"
            raise ConfigError(
                f"{JOB}.{table}: this service does not know the model {named.name!r}. Its settings say under [models] "
                f"what such names mean (now: {known}), for example "
                f'[models."{named.name}"] provider = "local" for the embedded model; or set the provider\'s key'
            )


def _usable(endpoint: Endpoint) -> bool:
    """Whether the server has an address and, where one is needed, a key for it."""
    try:
        address_of(endpoint)
        key_of(endpoint)
    except ConfigError:
        return False
    return True
