import json
import socket
import threading
from collections.abc import Iterator
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

import pytest

from rollouts.errors import ConfigError
from rollouts.llm.local_weights import find_weights
from rollouts.llm.serve import ModelServer, serve_model


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    try:
        find_weights("smollm2-135m")
    except ConfigError as error:
        pytest.skip(str(error))
    with serve_model(port=0) as server:
        yield server


@pytest.mark.model
def test_it_answers_plain_http(server: ModelServer) -> None:
    body = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 8, "temperature": 0}
    post = HttpRequest(f"{server.address}/v1/chat/completions", json.dumps(body).encode())
    with urlopen(post) as reply:
        answer = json.load(reply)
    assert answer["choices"][0]["message"]["content"]
    assert answer["usage"]["completion_tokens"] <= 8


@pytest.mark.model
def test_it_names_its_model_and_keeps_web_pages_out(server: ModelServer) -> None:
    with urlopen(HttpRequest(f"{server.address}/v1/models", headers={"Origin": "http://pages.example"})) as reply:
        assert not reply.headers.get("Access-Control-Allow-Origin")
        assert [model["id"] for model in json.load(reply)["data"]] == ["smollm2-135m"]


@pytest.mark.model
def test_a_busy_port_is_named(server: ModelServer) -> None:
    port = int(server.address.rpartition(":")[2])
    with pytest.raises(ConfigError, match=f"port {port}"):
        serve_model(port=port)


@pytest.mark.model
def test_waiting_ends_when_it_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    server = serve_model(port=0)
    assert not server.wait(0.01)
    waiting = threading.Thread(target=server.wait)
    waiting.start()
    server.close()
    waiting.join(5)
    assert not waiting.is_alive()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), 1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("port", [70000, -1])
def test_an_impossible_port(monkeypatch: pytest.MonkeyPatch, tmp_path, port: int) -> None:
    monkeypatch.setattr("rollouts.llm.serve.find_weights", lambda _: tmp_path / "x.gguf")
    with pytest.raises(ConfigError, match="choose another port"):
        serve_model(port=port)
