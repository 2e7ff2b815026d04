"""Data sets known by name: `tickets` comes with the package, `banking77` is downloaded once and checked."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from importlib.resources import files
from pathlib import Path

from rollouts.datasets.spec import DatasetSpec
from rollouts.datasets.tables import did_you_mean, fail

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A published file: where it is, how large, and the SHA-256 of its bytes."""

    url: str
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known about a named data set. Its first split is the default."""

    inputs: Mapping[str, str] = field(hash=False)
    ground_truth: str
    id: str | None = None
    remote: Mapping[str, RemoteFile] = field(default_factory=dict, hash=False)


_BANKING = "https://raw.githubusercontent.com/PolyAI-LDN/task-specific-datasets/master/banking_data/"

CATALOGUE: Mapping[str, Entry] = {
    # Written for this project.
    "tickets": Entry(inputs={"ticket": "ticket"}, ground_truth="route", id="id"),
    # Casanueva et al. 2020, "Efficient Intent Detection with Dual Sentence Encoders"; CC BY 4.0.
    "banking77": Entry(
        inputs={"text": "text"},
        ground_truth="category",
        remote={
            "train": RemoteFile(
                url=_BANKING + "train.csv",
                sha256="b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b",
                size=839_073,
            ),
            "test": RemoteFile(
                url=_BANKING + "test.csv",
                sha256="d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d",
                size=239_961,
            ),
        },
    ),
}


def resolve(
    spec: DatasetSpec, *, data_dir: Path | None, cache_dir: Path | None, timeout_s: float
) -> tuple[DatasetSpec, Path]:
    """A spec that names a built-in data set -> the same with the entry's columns filled in, and the CSV file.

    What the spec states goes before the entry. A file is looked for in `data_dir/<name>/`, then in
    `cache_dir/<name>/`, then downloaded to the latter. Raises DataError.
    """
    name, _, split = spec.name.partition("@")
    entry = CATALOGUE[name]
    if entry.remote:
        path = _remote_file(spec, name, split or spec.split, data_dir, cache_dir, timeout_s)
    elif split or spec.split:
        raise fail(spec.name, f"has no splits; leave {split or spec.split!r} out")
    else:
        # The package is installed as plain files, so the resource is a file on disk.
        path = Path(str(files("rollouts.datasets") / "data" / f"{name}.csv"))
    truth = spec.ground_truth or entry.ground_truth
    inputs = spec.inputs or {key: column for key, column in entry.inputs.items() if column != truth}
    return replace(spec, inputs=inputs, ground_truth=truth, id=spec.id or entry.id, format="csv"), path


def _remote_file(
    spec: DatasetSpec, name: str, split: str | None, data_dir: Path | None, cache_dir: Path | None, timeout_s: float
) -> Path:
    remote = CATALOGUE[name].remote
    split = split or next(iter(remote))
    if split not in remote:
        raise fail(spec.name, f"no split {split!r}; {did_you_mean(split, list(remote))}")
    file = remote[split]
    local = data_dir / name / f"{split}.csv" if data_dir else None
    if local and local.is_file():
        if sha256_of(local) != file.sha256:
            raise fail(
                str(local),
                f"differs from the published {name} (SHA-256 should start with {file.sha256[:12]}); "
                "give its path instead of the name to use it as it is",
            )
        return local
    if cache_dir is None:
        raise fail(spec.name, "is not in the data directory, and there is no cache directory to download it to")
    cached = cache_dir / name / f"{split}.csv"
    if not cached.is_file() or sha256_of(cached) != file.sha256:
        download(file, cached, timeout_s=timeout_s)
    return cached


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(file: RemoteFile, target: Path, *, timeout_s: float) -> None:
    """Fetches `file` to `target`, which appears whole and verified or not at all.

    `timeout_s` bounds each wait for the network. Raises DataError when the address cannot be reached, or answers
    with other bytes than the published ones.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    except OSError as error:
        raise fail(str(target), f"cannot be written ({error.strerror}); choose another cache directory") from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as out:
            got = _fetch(file, out.write, timeout_s)
        if got != file.sha256:
            raise fail(
                file.url,
                f"the download has SHA-256 {got[:12]}..., the published file {file.sha256[:12]}...: "
                "it was changed or cut on the way; try again, or place the right file in the data directory",
            )
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _fetch(file: RemoteFile, write: Callable[[bytes], object], timeout_s: float) -> str:
    """Streams the bytes to `write` and returns their SHA-256; stops once there are more than there should be."""
    digest, size = hashlib.sha256(), 0
    try:
        # The addresses are this module's constants, never a user's text.
        with urllib.request.urlopen(file.url, timeout=timeout_s) as response:  # noqa: S310
            while size <= file.size and (chunk := response.read(_CHUNK)):
                digest.update(chunk)
                size += len(chunk)
                write(chunk)
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else type(error).__name__
        raise fail(
            file.url,
            f"cannot be downloaded ({reason}); check the network, or place the file in the data directory",
        ) from error
    return digest.hexdigest()
