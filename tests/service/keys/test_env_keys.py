"""Keys of task apps: sealed by libsodium on the way in, and sealed where they lie."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from nacl.public import PrivateKey, PublicKey, SealedBox

from rollouts.errors import ConfigError
from rollouts.service.keys import EnvKeys, ServerKey, key_path
from rollouts.store.database import Database

SECRET = "ek-planted-0123456789"


def test_a_sealed_key_comes_out_as_it_went_in(env_keys: EnvKeys) -> None:
    box = env_keys.server.seal(SECRET)
    info = env_keys.put_sealed("team", "ENVIRONMENT_API_KEY", box)
    assert env_keys.get("team", "ENVIRONMENT_API_KEY") == SECRET
    assert env_keys.all("team") == [info]
    assert env_keys.opened == {SECRET}


def test_a_second_upload_takes_the_place_of_the_first(env_keys: EnvKeys) -> None:
    first = env_keys.put("team", "KEY", "one")
    second = env_keys.put("team", "KEY", "two")
    assert (second.id, second.created_at) == (first.id, first.created_at)
    assert env_keys.get("team", "KEY") == "two"
    assert len(env_keys.all("team")) == 1


def test_owners_do_not_see_each_others_keys(env_keys: EnvKeys) -> None:
    env_keys.put("one", "KEY", "first")
    env_keys.put("two", "KEY", "second")
    assert env_keys.get("one", "KEY") == "first"
    assert env_keys.get("three", "KEY") is None
    assert env_keys.remove("three", "KEY") is False
    assert env_keys.remove("one", "KEY") is True
    assert env_keys.get("one", "KEY") is None
    assert env_keys.get("two", "KEY") == "second"


@pytest.mark.parametrize("value", ["", "a b", "a\nb", "é", "x" * 8193, "\x00"])
def test_what_no_header_can_carry_is_refused_and_not_shown(env_keys: EnvKeys, value: str) -> None:
    with pytest.raises(ConfigError, match="plain ASCII"):
        env_keys.put("team", "KEY", value)
    assert env_keys.all("team") == []


def test_a_box_for_another_server_or_a_broken_one_is_refused(env_keys: EnvKeys) -> None:
    foreign = bytes(SealedBox(PrivateKey.generate().public_key).encrypt(SECRET.encode()))
    good = env_keys.server.seal(SECRET)
    for box in (foreign, good[:-1], good[:40], b"", good[:-1] + bytes([good[-1] ^ 1])):
        with pytest.raises(ConfigError, match="cannot be opened"):
            env_keys.put_sealed("team", "KEY", box)


def test_the_database_alone_tells_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "db" / "store.db")
    EnvKeys(database, ServerKey.load(tmp_path / "server.key")).put("team", "KEY", SECRET)
    database.close()
    assert not any(SECRET.encode() in file.read_bytes() for file in (tmp_path / "db").iterdir())
    other = Database(tmp_path / "db" / "store.db")
    with pytest.raises(ConfigError, match="public key that this server has now"):
        EnvKeys(other, ServerKey.load(tmp_path / "another.key")).get("team", "KEY")
    other.close()


def test_the_servers_key_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "server.key"
    first, again = ServerKey.load(path), ServerKey.load(path)
    assert first.public == again.public
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["server.key"]
    assert again.open(first.seal(SECRET)) == SECRET


def test_a_key_file_that_others_can_read_or_that_holds_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "server.key"
    ServerKey.load(path)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        ServerKey.load(path)
    path.chmod(0o600)
    for content in (b"", b"hello", b"aGVsbG8="):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="no server key"):
            ServerKey.load(path)
    with pytest.raises(ConfigError, match="cannot be used"):
        ServerKey.load(tmp_path)


def test_any_libsodium_can_seal_for_the_server(tmp_path: Path) -> None:
    from base64 import b64decode

    server = ServerKey.load(tmp_path / "server.key")
    box = bytes(SealedBox(PublicKey(b64decode(server.public))).encrypt(SECRET.encode()))
    assert server.open(box) == SECRET


def test_the_key_lies_beside_an_sqlite_file_and_must_be_named_elsewhere(tmp_path: Path) -> None:
    assert key_path(str(tmp_path / "s.db")) == tmp_path / "s.db.key"
    assert key_path(f"sqlite:///{tmp_path}/s.db") == tmp_path / "s.db.key"
    assert key_path("postgresql://host/name", tmp_path / "k") == tmp_path / "k"
    with pytest.raises(ConfigError, match="key_file"):
        key_path("postgresql://host/name")
