"""Tells the end of jobs to the addresses that their owners named, in the form of standardwebhooks.com."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import aiohttp

from rollouts.errors import ConfigError, RolloutsError
from rollouts.service.guard import UrlPolicy
from rollouts.service.jobs.model import JobRow
from rollouts.service.jobs.table import JobTable
from rollouts.service.keys import EnvKeys
from rollouts.service.settings import ServiceSettings

WEBHOOK = "webhook"
"""Where a job's `config` has its webhook, and the kind of event that tells of a delivery."""

KEY_NAME = "WEBHOOK_SECRET"
"""The environment key that signs where a webhook names none."""

_WAITS_S = (5.0, 30.0, 120.0, 600.0, 3600.0)
_TIMEOUT_S = 10.0
_CONNECTIONS = 100
_PER_HOST = 4
_GONE = 410

Tell = Callable[..., None]
log = logging.getLogger(__name__)


class Webhooks:
    """Delivers, at least once, that a job has ended, to `config["webhook"]`: its `url` and maybe a `key_name`.

    What is due stands in the job's row from the moment in which it ends until an answer in the 200s came, or 410, or
    the last attempt failed; the next `start` begins with that anew. Deliveries of one end have one id. A secret that
    begins with `whsec_` is base64 after it, as in the standard.
    """

    def __init__(self, settings: ServiceSettings, jobs: JobTable, env_keys: EnvKeys) -> None:
        self._jobs, self._env_keys = jobs, env_keys
        self._policy = UrlPolicy.of(settings.allow_networks, bound_to=settings.host)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tell: Tell | None = None

    def start(self, tell: Tell) -> None:
        """Takes up what earlier processes left. `tell(job_id, kind, **data)` records an event of a job."""
        self._tell = tell
        self._session = aiohttp.ClientSession(
            connector=self._policy.connector(limit=_CONNECTIONS, limit_per_host=_PER_HOST),
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
        )
        for row in self._jobs.webhooks_due():
            self.send(row)

    async def close(self) -> None:
        """Stops; what is not delivered stays due."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def check(self, owner: str, config: Mapping[str, Any]) -> None:
        """Raises ConfigError for a webhook whose address or key cannot be used."""
        hook = config.get(WEBHOOK)
        if hook is not None:
            self._policy.check(hook["url"], "webhook.url")
            self._secret(owner, hook)

    def send(self, row: JobRow) -> None:
        """Begins to deliver the end of a job whose webhook is due."""
        self.forget(row.id)
        row = replace(row, config={WEBHOOK: row.config[WEBHOOK]}, result=None)
        task = self._tasks[row.id] = asyncio.create_task(self._deliver(row), name=f"webhook {row.id}")
        task.add_done_callback(lambda task: self._tasks.get(row.id) is task and self._tasks.pop(row.id))

    def forget(self, job_id: str) -> None:
        """Delivers no more of what is due: the job goes on."""
        task = self._tasks.pop(job_id, None)
        if task is not None:
            task.cancel()

    async def _deliver(self, row: JobRow) -> None:
        assert self._tell is not None
        try:
            for attempt, wait_s in enumerate((*_WAITS_S, None), 1):
                outcome = await self._attempt(row)
                over = outcome.get("status") == _GONE or outcome["delivered"] or wait_s is None
                again = {} if over else {"again_in_s": wait_s}
                self._tell(row.id, WEBHOOK, attempt=attempt, **outcome, **again)
                if over:
                    break
                await asyncio.sleep(wait_s or 0.0)
            self._jobs.change(row.id, webhook_due=None)
        except RolloutsError as error:
            log.error("webhook of job %s: %s", row.id, error)

    async def _attempt(self, row: JobRow) -> dict[str, Any]:
        """What came of it, without the address: it may be a secret."""
        assert self._session is not None
        hook = row.config[WEBHOOK]
        try:
            secret = await asyncio.to_thread(self._secret, row.owner, hook)
            body = message(row)
            headers = {
                "content-type": "application/json",
                **signed(body, f"{row.id}_{int((row.finished_at or 0) * 1000)}", secret),
            }
            async with self._session.post(hook["url"], data=body, headers=headers, allow_redirects=False) as response:
                return {"delivered": 200 <= response.status < 300, "status": response.status}
        except TimeoutError:
            return {"delivered": False, "error": f"no answer within {_TIMEOUT_S:g} s"}
        except (aiohttp.ClientError, OSError, UnicodeError, ConfigError) as error:
            return {"delivered": False, "error": str(error).replace(hook["url"], "the webhook")[:500]}

    def _secret(self, owner: str, hook: Mapping[str, Any]) -> bytes | None:
        name = hook.get("key_name")
        text = self._env_keys.get(owner, name or KEY_NAME)
        if text is None:
            if name:
                raise ConfigError(f"webhook.key_name: there is no environment key {name!r}; upload it, or name another")
            return None
        if text.startswith("whsec_"):
            with suppress(Base64Error):
                return b64decode(text.removeprefix("whsec_"), validate=True)
        return text.encode()


def message(row: JobRow) -> bytes:
    """The body of a delivery: what is known of the job in lists."""
    summary = row.summary or {}
    data = {
        "id": row.id,
        "kind": row.kind,
        "name": row.name,
        "status": row.status,
        "created_at": row.created_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
        "error": row.error,
        "best_score": summary.get("best_score"),
        "baseline_score": summary.get("baseline_score"),
        "verdict": (summary.get("verdict") or {}).get("decision"),
    }
    moment = datetime.fromtimestamp(row.finished_at or 0.0, UTC).isoformat()
    return json.dumps({"type": f"job.{row.status}", "timestamp": moment, "data": data}).encode()


def signed(body: bytes, message_id: str, secret: bytes | None, *, now: float | None = None) -> dict[str, str]:
    """The headers of a delivery; without a secret there is no signature among them."""
    stamp = str(int(time.time() if now is None else now))
    headers = {"webhook-id": message_id, "webhook-timestamp": stamp}
    if secret is not None:
        mac = hmac.digest(secret, b".".join([message_id.encode(), stamp.encode(), body]), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{b64encode(mac).decode()}"
    return headers
