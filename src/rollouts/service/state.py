"""What the routes of a service share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from rollouts.llm.client import Provider
from rollouts.service.interceptor import Interceptor
from rollouts.service.jobs import Engine, Events, JobRunner, JobTable, NativeRunner, TaskAppRunner, Webhooks
from rollouts.service.keys import EnvKeys, KeyRing, ServerKey, key_path
from rollouts.service.online import OnlineRunner, Systems
from rollouts.service.settings import ServiceSettings
from rollouts.store.sql import SqlStore

LOCK = "service"


@dataclass(frozen=True, kw_only=True)
class ServiceState:
    """A service on an open store. Made by `open_state`."""

    settings: ServiceSettings
    store: SqlStore
    keys: KeyRing
    env_keys: EnvKeys
    jobs: JobTable
    events: Events
    engine: Engine
    online: Systems

    def start(self) -> None:
        """Begins work, in the running event loop."""
        self.events.start()
        self.engine.start()

    async def close(self) -> None:
        """Stops all work where it is and closes the store."""
        await self.engine.close()
        await self.events.close()
        self.store.close()


def open_state(
    settings: ServiceSettings, interceptor: Interceptor, providers: Mapping[str, Provider] | None = None
) -> ServiceState:
    """The parts of a service, at rest. `providers` are used instead of making some (see `StudyOptions`).

    Raises ConfigError, StoreError, and RunLocked where another service works on the store.
    """
    store = SqlStore(settings.store)
    try:
        store.lock_run(LOCK)
        env_keys = EnvKeys(store.database, ServerKey.load(key_path(settings.store, settings.key_file)))
        jobs, events = JobTable(store.database), Events(store)
        online = Systems(env_keys, settings.url)
        runners: dict[str, JobRunner] = {
            "native": NativeRunner(settings),
            "task_app": TaskAppRunner(settings=settings, env_keys=env_keys, interceptor=interceptor),
            "online": OnlineRunner(settings=settings, interceptor=interceptor, systems=online),
        }
        webhooks = Webhooks(settings, jobs, env_keys)
        engine = Engine(settings, store, jobs, events, runners=runners, webhooks=webhooks, providers=providers)
    except BaseException:
        store.close()
        raise
    return ServiceState(
        settings=settings,
        store=store,
        keys=KeyRing(store.database),
        env_keys=env_keys,
        jobs=jobs,
        events=events,
        engine=engine,
        online=online,
    )


async def state_of(request: Request) -> ServiceState:
    """The service that a request came to."""
    # Async, because FastAPI runs plain functions on a thread: one more wait for every request.
    found: ServiceState = request.app.state.service
    return found


State = Annotated[ServiceState, Depends(state_of)]
