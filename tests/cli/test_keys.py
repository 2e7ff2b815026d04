"""`rollouts keys`: made in a store, with no service running."""

from __future__ import annotations

import re

import pytest

from rollouts.service.keys import KeyRing
from rollouts.store.database import Database
from tests.cli.conftest import Cli


@pytest.fixture
def store(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("ROLLOUTS_SERVE_STORE", raising=False)
    return str(cli.folder / "service.db")


def test_a_key_is_made_listed_and_revoked(cli: Cli, store: str) -> None:
    made = cli("keys", "create", "--name", "ci", "--owner", "team", "--scope", "read", "--days", "2", "--store", store)
    assert made.code == 0
    assert re.fullmatch(r"rk_[0-9a-f]{12}_\S{43}\n", made.out)  # so that a shell can take it into a variable
    key = made.out.strip()
    listed = cli("keys", "list", "--store", store)
    assert key not in listed.out
    assert all(word in listed.out for word in (key[3:15], "ci", "team", "read", "never", "works"))

    database = Database(store)
    principal = KeyRing(database).look_up(key)
    assert principal is not None
    assert (principal.owner, principal.scopes) == ("team", ("read",))
    (info,) = cli("keys", "list", "--store", store, "--json").json["keys"]
    assert info["expires_at"] == pytest.approx(info["created_at"] + 2 * 86400)

    assert "is revoked" in cli("keys", "revoke", key[3:15], "--store", store).out
    assert KeyRing(database).look_up(key) is None
    assert "revoked" in cli("keys", "list", "--store", store).out
    database.close()


def test_json_holds_the_key_once(cli: Cli, store: str) -> None:
    made = cli("keys", "create", "--json", "--store", store).json
    assert made["key"].startswith(f"rk_{made['id']}_")
    assert made["scopes"] == ["jobs"]
    assert made["key"] not in cli("keys", "list", "--json", "--store", store).out


def test_the_store_is_that_of_the_services_settings(cli: Cli, store: str) -> None:
    (cli.folder / "serve.toml").write_text(f"store = '{store}'\n")
    cli("keys", "create", "--config", cli.folder / "serve.toml")
    assert len(cli("keys", "list", "--store", store, "--json").json["keys"]) == 1


def test_mistakes_are_told(cli: Cli, store: str) -> None:
    for words, said in (
        (("create", "--scope", "root"), "read, jobs, admin"),
        (("create", "--days", "-1"), "--days"),
        (("revoke", "000000000000"), "rollouts keys list"),
        (("list", "--config", cli.folder / "none.toml"), "none.toml"),
        (("upload", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE is not set"),
    ):
        place = () if words[0] == "upload" else ("--store", store)
        answer = cli("keys", *words, *place)
        assert answer.code != 0
        assert said in answer.err
