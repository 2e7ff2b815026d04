"""The routes for keys, and who may use them."""

from __future__ import annotations

from base64 import b64decode, b64encode

import httpx
import pytest
from nacl.public import PublicKey, SealedBox

from rollouts.service.keys import SCOPES, EnvKeys, KeyRing

SECRET = "ek-planted-0123456789"
ROUTES = [
    ("POST", "/keys", "admin"),
    ("GET", "/keys", "admin"),
    ("DELETE", "/keys/0123456789ab", "admin"),
    ("GET", "/crypto/public-key", "read"),
    ("POST", "/env-keys", "jobs"),
    ("GET", "/env-keys", "read"),
    ("GET", "/env-keys/verify", "read"),
    ("DELETE", "/env-keys/KEY", "jobs"),
]


def bearing(ring: KeyRing, scope: str = "admin", owner: str = "default") -> dict[str, str]:
    return {"X-API-Key": ring.create(name="test", scopes=[scope], owner=owner)[0]}  # type: ignore[list-item]


@pytest.mark.parametrize(("method", "path", "needed"), ROUTES)
async def test_a_route_is_open_to_its_scope_and_no_weaker_one(
    http: httpx.AsyncClient, ring: KeyRing, method: str, path: str, needed: str
) -> None:
    url = f"/api/v1{path}"
    assert (await http.request(method, url)).status_code == 401
    wrong = {"X-API-Key": "rk_000000000000_" + "A" * 43}
    assert (await http.request(method, url, headers=wrong)).json()["code"] == "unauthorised"
    for scope in SCOPES:
        answer = await http.request(method, url, headers=bearing(ring, scope))
        enough = SCOPES.index(scope) >= SCOPES.index(needed)
        assert (answer.status_code != 403) == enough, (scope, answer.text)


@pytest.mark.parametrize("style", ["X-API-Key", "Bearer", "bearer"])
async def test_a_key_comes_in_either_header(http: httpx.AsyncClient, ring: KeyRing, style: str) -> None:
    key = bearing(ring)["X-API-Key"]
    headers = {"X-API-Key": key} if style == "X-API-Key" else {"Authorization": f"{style} {key}"}
    assert (await http.get("/api/v1/keys", headers=headers)).status_code == 200


async def test_a_key_is_shown_once_and_works_until_it_is_revoked(http: httpx.AsyncClient, ring: KeyRing) -> None:
    admin = bearing(ring)
    made = await http.post("/api/v1/keys", headers=admin, json={"name": "ci", "scopes": ["read"], "ttl_hours": 1})
    assert made.status_code == 201
    body = made.json()
    assert body["expires_at"] == body["created_at"] + 3600
    mine = {"X-API-Key": body["key"]}
    assert (await http.get("/api/v1/env-keys", headers=mine)).json() == {"keys": []}
    assert body["key"] not in (await http.get("/api/v1/keys", headers=admin)).text
    gone = await http.delete(f"/api/v1/keys/{body['id']}", headers=admin)
    assert gone.json()["revoked_at"] is not None
    assert (await http.get("/api/v1/env-keys", headers=mine)).status_code == 401


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"name": ""},
        {"name": "a\x00b"},
        {"name": "a", "scopes": []},
        {"name": "a", "scopes": ["root"]},
        {"name": "a", "ttl_hours": -1},
        {"name": "a", "ttl_hours": 1e400},
        {"name": "a", "salt": "x"},
        [],
        "text",
    ],
)
async def test_a_wrong_wish_for_a_key_is_refused(http: httpx.AsyncClient, ring: KeyRing, wrong: object) -> None:
    import json

    headers = {**bearing(ring), "content-type": "application/json"}
    answer = await http.post("/api/v1/keys", headers=headers, content=json.dumps(wrong))
    assert answer.status_code == 422
    assert len(ring.all()) == 1


async def test_an_environment_key_is_sealed_verified_and_deleted(
    http: httpx.AsyncClient, ring: KeyRing, env_keys: EnvKeys
) -> None:
    mine, other = bearing(ring, "jobs", "me"), bearing(ring, "admin", "you")
    public = (await http.get("/api/v1/crypto/public-key", headers=mine)).json()
    assert public["alg"] == "libsodium.sealedbox.v1"
    box = SealedBox(PublicKey(b64decode(public["public_key"]))).encrypt(SECRET.encode())
    body = {"name": "ENVIRONMENT_API_KEY", "ciphertext_b64": b64encode(box).decode()}
    answer = await http.post("/api/v1/env-keys", headers=mine, json=body)
    assert answer.status_code == 200
    assert set(answer.json()) == {"id", "name", "created_at", "updated_at"}
    assert env_keys.get("me", "ENVIRONMENT_API_KEY") == SECRET
    assert (await http.get("/api/v1/env-keys/verify", headers=mine)).json() == {"present": True}
    assert (await http.get("/api/v1/env-keys/verify", headers=other)).json() == {"present": False}
    assert (await http.delete("/api/v1/env-keys/ENVIRONMENT_API_KEY", headers=other)).status_code == 404
    assert (await http.delete("/api/v1/env-keys/ENVIRONMENT_API_KEY", headers=mine)).status_code == 204
    assert (await http.get("/api/v1/env-keys/verify", headers=mine)).json() == {"present": False}


async def test_keys_that_the_service_keeps_for_jobs_are_not_listed(
    http: httpx.AsyncClient, ring: KeyRing, env_keys: EnvKeys
) -> None:
    for name in ("job-0123456789abcdef", "online:pl_0123456789abcdef", "KEY"):
        env_keys.put("me", name, SECRET)
    listed = await http.get("/api/v1/env-keys", headers=bearing(ring, "read", "me"))
    assert [key["name"] for key in listed.json()["keys"]] == ["KEY"]


@pytest.mark.parametrize("box", ["not base64!", "aGVsbG8=", "é", b64encode(SECRET.encode()).decode()])
async def test_a_wrong_box_is_refused_without_being_shown(http: httpx.AsyncClient, ring: KeyRing, box: str) -> None:
    body = {"name": "KEY", "ciphertext_b64": box}
    answer = await http.post("/api/v1/env-keys", headers=bearing(ring), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "wrong_box")
    assert box not in answer.text
    assert SECRET not in answer.text
