"""The server's key pair, to which secrets are sealed: X25519 boxes of libsodium."""

from __future__ import annotations

import base64
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from rollouts.errors import ConfigError
from rollouts.store.dialects import parse

ALGORITHM = "libsodium.sealedbox.v1"


class ServerKey:
    """Opens what was sealed with its public half.

    Only the private half needs guarding, so it lies in a file of its own and not in the database: a copy of the
    database alone tells nobody a secret.
    """

    def __init__(self, private: PrivateKey) -> None:
        self._private = private

    @classmethod
    def load(cls, path: Path) -> ServerKey:
        """The key in the file, which is made (mode 0600) when it is not there.

        Raises ConfigError when the file cannot be read or made, others may read it, or it holds something else.
        """
        try:
            if not path.exists():
                _make(path)
            if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
                raise ConfigError(f"{path} holds the server's private key and others may read it: chmod 600 {path}")
            return cls(PrivateKey(base64.b64decode(path.read_bytes(), validate=True)))
        except OSError as error:
            raise ConfigError(f"the server's key file {path} cannot be used ({error.strerror}); see key_file") from None
        except (ValueError, TypeError, CryptoError):
            raise ConfigError(
                f"{path} holds no server key; restore its backup, or move it away and upload environment keys anew"
            ) from None

    @property
    def public(self) -> str:
        """The public half, 32 bytes in base64."""
        return base64.b64encode(bytes(self._private.public_key)).decode()

    def seal(self, text: str) -> bytes:
        """A sealed box that only this server opens."""
        return bytes(SealedBox(self._private.public_key).encrypt(text.encode()))

    def open(self, box: bytes) -> str:
        """What is in a sealed box. Raises ConfigError when it was sealed for another key, or holds no text."""
        try:
            return SealedBox(self._private).decrypt(box).decode()
        except (CryptoError, ValueError, TypeError):
            raise ConfigError(
                "the sealed box cannot be opened: seal the text itself, with the public key that this server has now "
                "(GET /api/v1/crypto/public-key)"
            ) from None


def key_path(store: str, given: Path | None = None) -> Path:
    """Where the server's key lies: in the file that was named, else beside the SQLite file of the store.

    Raises ConfigError for a store that is no file, where one must be named.
    """
    if given is not None:
        return given
    url = parse(store)
    if url.get_backend_name() != "sqlite":
        raise ConfigError("with a store in PostgreSQL, name the file for the server's private key: key_file")
    return Path(f"{url.database}.key")


def _make(path: Path) -> None:
    """Writes a new key under a temporary name first: nobody sees half a file, and of two processes one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(bytes(PrivateKey.generate())))
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
