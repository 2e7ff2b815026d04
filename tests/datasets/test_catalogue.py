"""Named data sets: shipped, found in a data directory, or downloaded once and verified."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from rollouts.datasets import BUILT_IN, DatasetSpec, catalogue, is_file_path, load
from rollouts.datasets.catalogue import CATALOGUE, Entry, RemoteFile, download
from rollouts.errors import DataError

BODY = b"text,category\n" + b"".join(b"message %d,intent%d\n" % (i, i % 3) for i in range(20_000))


@pytest.fixture
def server() -> Iterator[SimpleNamespace]:
    """Serves `state.body` at any path, and counts requests."""
    state = SimpleNamespace(body=BODY, declared=None, status=200, requests=0, url="", hang=threading.Event())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests += 1
            if self.path == "/hang":
                state.hang.wait(5)
                return
            self.send_response(state.status)
            self.send_header("Content-Length", str(state.declared or len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/train.csv"
    yield state
    state.hang.set()
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def published(server: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """`banking77` as if published on the loopback server."""
    file = RemoteFile(url=server.url, sha256=hashlib.sha256(BODY).hexdigest(), size=len(BODY))
    entry = Entry(inputs={"text": "text"}, ground_truth="category", remote={"train": file})
    monkeypatch.setattr(catalogue, "CATALOGUE", {**CATALOGUE, "banking77": entry})
    return server


def test_names_and_entries_agree() -> None:
    assert sorted(CATALOGUE) == sorted(BUILT_IN)
    assert not any(map(is_file_path, (*BUILT_IN, "banking77@test", "hf:owner/name")))
    assert all(map(is_file_path, ("data/tickets.csv", "tickets.csv", Path("tickets"), "./banking77")))


def test_tickets_come_with_the_package() -> None:
    samples = load(DatasetSpec(path="tickets"))
    assert len(samples) > 300
    assert all(set(sample.inputs) == {"ticket"} and sample.ground_truth for sample in samples)
    mapped = load(DatasetSpec(path="tickets", inputs={"query": "ticket"}, labels=["invoice_copy"], limit=5))
    assert len(mapped) == 5
    assert {sample.ground_truth for sample in mapped} == {"invoice_copy"}
    with pytest.raises(DataError, match="tickets@test: has no splits"):
        load(DatasetSpec(path="tickets@test"))


def test_a_download_is_kept(published: SimpleNamespace, tmp_path: Path) -> None:
    for _ in range(2):
        assert len(load(DatasetSpec(path="banking77"), cache_dir=tmp_path / "new" / "cache")) == 20_000
    assert published.requests == 1
    assert [path.name for path in (tmp_path / "new" / "cache" / "banking77").iterdir()] == ["train.csv"]


def test_a_damaged_cache_is_downloaded_again(published: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "banking77").mkdir()
    cached = tmp_path / "banking77" / "train.csv"
    cached.write_bytes(BODY[:-10])
    assert len(load(DatasetSpec(path="banking77"), cache_dir=tmp_path)) == 20_000
    assert cached.read_bytes() == BODY


def test_the_data_directory_goes_first(published: SimpleNamespace, tmp_path: Path) -> None:
    (tmp_path / "banking77").mkdir()
    local = tmp_path / "banking77" / "train.csv"
    local.write_bytes(BODY)
    assert len(load(DatasetSpec(path="banking77@train"), data_dir=tmp_path)) == 20_000
    local.write_bytes(BODY.replace(b"\n", b"\r\n"))
    with pytest.raises(DataError, match=r"train\.csv: differs from the published banking77"):
        load(DatasetSpec(path="banking77"), data_dir=tmp_path)
    assert published.requests == 0


@pytest.mark.parametrize("body", [b"<html>", BODY[:-1], BODY + b"x", BODY[:-2] + b"9\n", BODY * 50])
def test_other_bytes_are_refused_and_not_kept(published: SimpleNamespace, tmp_path: Path, body: bytes) -> None:
    published.body = body
    with pytest.raises(DataError, match=r"the download has SHA-256 .* the published file"):
        load(DatasetSpec(path="banking77"), cache_dir=tmp_path)
    assert list((tmp_path / "banking77").iterdir()) == []


def test_network_failures(published: SimpleNamespace, tmp_path: Path) -> None:
    published.status = 404
    with pytest.raises(DataError, match=r"train\.csv: cannot be downloaded \(Not Found\)"):
        load(DatasetSpec(path="banking77"), cache_dir=tmp_path)
    published.status, published.declared, published.body = 200, len(BODY), BODY[:-100]
    with pytest.raises(DataError, match=r"SHA-256|cannot be downloaded"):
        load(DatasetSpec(path="banking77"), cache_dir=tmp_path)
    hanging = RemoteFile(url=published.url.replace("/train.csv", "/hang"), sha256="", size=1)
    with pytest.raises(DataError, match="cannot be downloaded"):
        download(hanging, tmp_path / "x.csv", timeout_s=0.05)
    closed = RemoteFile(url="http://127.0.0.1:9/train.csv", sha256="", size=1)
    with pytest.raises(DataError, match="check the network"):
        download(closed, tmp_path / "x.csv", timeout_s=1)
    assert not (tmp_path / "x.csv").exists()


def test_what_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cache directory"):
        load(DatasetSpec(path="banking77"), data_dir=tmp_path)
    with pytest.raises(DataError, match="no split 'tset'; did you mean 'test'"):
        load(DatasetSpec(path="banking77", split="tset"))
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="choose another cache directory"):
        load(DatasetSpec(path="banking77"), cache_dir=tmp_path / "file")
