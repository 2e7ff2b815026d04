"""Routes for keys: API keys by admins, environment keys by their owners."""

from __future__ import annotations

import asyncio
import re
from base64 import b64decode
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from rollouts.errors import ConfigError, ServiceError
from rollouts.service.keys.access import require
from rollouts.service.keys.env_keys import EnvKeys
from rollouts.service.keys.model import Principal, Scope
from rollouts.service.keys.ring import KeyRing
from rollouts.service.keys.sealing import ALGORITHM
from rollouts.service.problems import BODY, refusals

router = APIRouter(prefix="/api/v1", tags=["keys"], responses=refusals(401, 403, 404, 422))

Reader = Annotated[Principal, Depends(require("read"))]
Worker = Annotated[Principal, Depends(require("jobs"))]
Admin = Annotated[Principal, Depends(require("admin"))]

_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
_Title = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
EnvName = Annotated[str, Path(pattern=_VARIABLE, examples=["ENVIRONMENT_API_KEY"])]


class NewApiKey(BaseModel):
    """What an API key is to be."""

    model_config = ConfigDict(extra="forbid")

    name: _Title = Field(examples=["ci"], description="What the key is for.")
    owner: _Title = Field(default="default", description="Whose jobs the key sees.")
    scopes: list[Scope] = Field(default=["jobs"], min_length=1, max_length=3)
    ttl_hours: float | None = Field(default=None, gt=0, le=24 * 3660, description="Hours until it ends; null: never.")


class ApiKeyInfo(BaseModel):
    """An API key without its secret; times in seconds since the epoch."""

    id: str
    name: str
    owner: str
    scopes: list[Scope]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None


class CreatedApiKey(ApiKeyInfo):
    """A new API key: the one time that `key` is shown."""

    key: str


class ApiKeys(BaseModel):
    """All API keys."""

    keys: list[ApiKeyInfo]


class PublicKey(BaseModel):
    """The server's X25519 key, to which environment keys are sealed."""

    public_key: str = Field(description="32 bytes in base64.")
    alg: str = ALGORITHM


class NewEnvKey(BaseModel):
    """A task app's key in a sealed box."""

    name: str = Field(pattern=_VARIABLE, examples=["ENVIRONMENT_API_KEY"])
    ciphertext_b64: str = Field(min_length=1, max_length=16384, description="Sealed box of the key, in base64.")


class EnvKeyInfo(BaseModel):
    """That there is an environment key of this name; times in seconds since the epoch."""

    id: str
    name: str
    created_at: float
    updated_at: float


class EnvKeyList(BaseModel):
    """The caller's environment keys."""

    keys: list[EnvKeyInfo]


class Present(BaseModel):
    """Whether there is a key."""

    present: bool


def _ring(request: Request) -> KeyRing:
    ring: KeyRing = request.app.state.keys
    return ring


def _env_keys(request: Request) -> EnvKeys:
    keys: EnvKeys = request.app.state.env_keys
    return keys


Ring = Annotated[KeyRing, Depends(_ring)]
EnvKeyring = Annotated[EnvKeys, Depends(_env_keys)]


@router.post("/keys", status_code=201, response_model=CreatedApiKey, responses=BODY)
async def create_key(wanted: NewApiKey, ring: Ring, _: Admin) -> dict[str, Any]:
    """Makes an API key. The answer is the only place that shows it."""
    ttl_s = None if wanted.ttl_hours is None else wanted.ttl_hours * 3600
    key, info = await asyncio.to_thread(
        ring.create, name=wanted.name, owner=wanted.owner, scopes=wanted.scopes, ttl_s=ttl_s
    )
    return {"key": key, **asdict(info)}


@router.get("/keys", response_model=ApiKeys)
async def list_keys(ring: Ring, _: Admin) -> dict[str, Any]:
    """All API keys, revoked ones too."""
    return {"keys": [asdict(key) for key in await asyncio.to_thread(ring.all)]}


@router.delete("/keys/{key_id}", response_model=ApiKeyInfo)
async def revoke_key(key_id: Annotated[str, Path(pattern=r"^[0-9a-f]{12}$")], ring: Ring, _: Admin) -> dict[str, Any]:
    """Ends an API key at once, for ever."""
    return asdict(await asyncio.to_thread(ring.revoke, key_id))


@router.get("/crypto/public-key", response_model=PublicKey)
async def public_key(keys: EnvKeyring, _: Reader) -> dict[str, Any]:
    """The key to seal environment keys with (libsodium's `crypto_box_seal`)."""
    return {"public_key": keys.server.public, "alg": ALGORITHM}


@router.post("/env-keys", response_model=EnvKeyInfo, responses=BODY)
async def put_env_key(new: NewEnvKey, keys: EnvKeyring, caller: Worker) -> dict[str, Any]:
    """Keeps a task app's key under a name, in place of the one that had it."""
    try:
        box = b64decode(new.ciphertext_b64, validate=True)
        return asdict(await asyncio.to_thread(keys.put_sealed, caller.owner, new.name, box))
    except (ConfigError, ValueError) as error:
        reason = str(error) if isinstance(error, ConfigError) else "ciphertext_b64 is not base64"
        raise ServiceError(reason, status=422, code="wrong_box") from None


@router.get("/env-keys", response_model=EnvKeyList)
async def list_env_keys(keys: EnvKeyring, caller: Reader) -> dict[str, Any]:
    """The names of the caller's environment keys, without those that the service keeps for single jobs."""
    known = await asyncio.to_thread(keys.all, caller.owner)
    return {"keys": [asdict(key) for key in known if re.fullmatch(_VARIABLE, key.name)]}


@router.get("/env-keys/verify", response_model=Present)
async def verify_env_key(
    keys: EnvKeyring, caller: Reader, name: Annotated[str, Query(pattern=_VARIABLE)] = "ENVIRONMENT_API_KEY"
) -> dict[str, Any]:
    """Whether there is a key of that name."""
    known = await asyncio.to_thread(keys.all, caller.owner)
    return {"present": any(key.name == name for key in known)}


@router.delete("/env-keys/{name}", status_code=204)
async def remove_env_key(name: EnvName, keys: EnvKeyring, caller: Worker) -> None:
    """Deletes an environment key."""
    if not await asyncio.to_thread(keys.remove, caller.owner, name):
        raise ServiceError(f"no environment key has the name {name!r}", status=404, code="key_not_found")
