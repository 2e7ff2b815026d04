"""Requests of people who mean ill, or whose programs are wrong: a clear refusal, and nobody else notices."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import aiohttp
from yarl import URL

from tests.service.conftest import Service, Start
from tests.service.world import body, config

UNKNOWN = "pl_ffffffffffffffff"
OPEN = {"/health", "/api/demo/keys"}
"""What needs no key: the second one is switched off."""
OF_A_JOB = [
    ("GET", ""),
    ("GET", "/events"),
    ("GET", "/events/stream"),
    ("GET", "/results"),
    ("GET", "/best_prompt"),
    ("GET", "/candidates"),
    ("GET", "/spend"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/cancel"),
]

PATHS = [
    "/api/v1/jobs/../keys",
    "/api/v1/jobs/..%2Fkeys",
    "/api/v1/jobs/%2e%2e/%2e%2e/keys",
    "/api/v1/jobs/pl_0/..%2f..%2f..%2fetc%2fpasswd",
    "/api/v1/jobs//etc/passwd",
    "/api/v1/jobs/%00",
    "/api/v1/jobs/pl_%00",
    "/api/v1/jobs/%ff%fe",
    "/api/v1/jobs/%ed%a0%80",
    "/api/v1/jobs/pl_0123456789abcdef%0d%0aX-Planted:%201",
    "/api/v1/jobs/" + "a" * 5000,
    "/api/v1/jobs/'%20OR%201=1--",
    "/api/v1/jobs/pl_%25",
    "/api/v1/jobs/.",
    "/api/v1/keys/..%2f..%2fjobs",
    "/api/v1/env-keys/..%2f..%2fkeys",
    "/..%2f..%2fetc/passwd",
    "//api/v1/jobs",
    "/api/v1/jobs;x=1",
    "/docs/../../etc/passwd",
]
QUERIES = [
    "limit=0",
    "limit=-1",
    "limit=99999999",
    "limit=abc",
    "limit=1e3",
    "status=nonsense",
    "status=%00",
    "limit=" + "9" * 400,
]


async def refusal(answer: aiohttp.ClientResponse, *statuses: int) -> dict[str, Any]:
    """The refusal's body, which has the one shape that all have, and no traceback."""
    text = await answer.text()
    assert answer.status in statuses, (answer.status, text)
    problem: dict[str, Any] = json.loads(text)
    assert set(problem) == {"detail", "code"}
    assert isinstance(problem["detail"], str)
    assert problem["code"].replace("_", "").isalpha()
    assert "Traceback" not in text
    assert 'File "' not in text
    return problem


async def still_well(service: Service) -> None:
    """The service works for others."""
    async with service.http() as http, http.get("/api/v1/jobs") as answer:
        assert answer.status == 200


async def test_a_foreign_job_is_as_unknown_as_one_that_never_was(service: Service) -> None:
    async with service.client(service.make_key("mine")) as client:
        job = await client.create_job(**body())
        await client.cancel(job.id)
    async with service.http(service.make_key("theirs", ["admin"])) as http:
        for method, path in OF_A_JOB:
            said = []
            for job_id in (job.id, UNKNOWN):
                async with http.request(method, f"/api/v1/jobs/{job_id}{path}") as answer:
                    problem = await refusal(answer, 404)
                    said.append((problem["detail"].replace(job_id, "ID"), problem["code"]))
            assert said[0] == said[1], path
        async with http.get("/api/v1/jobs") as answer:
            assert (await answer.json())["jobs"] == []
        async with http.get(f"/api/v1/jobs?before={job.id}") as answer:
            assert job.id not in json.dumps((await answer.json()).get("jobs", []))
    async with service.client(service.make_key("mine")) as client:
        assert [found.id for found in await client.jobs()] == [job.id]


async def test_every_other_route_needs_a_key(service: Service) -> None:
    no_key: list[dict[str, str]] = [
        {},
        {"X-API-Key": "rk_" + "0" * 12 + "_" + "A" * 43},
        {"Authorization": "Basic YTpi"},
        {"Authorization": f"Bearer {service.key[:-1]}"},
    ]
    async with aiohttp.ClientSession(service.url) as http:
        for path, operations in service.app.openapi()["paths"].items():
            if path in OPEN:
                continue
            for method in operations:
                for headers in no_key:
                    async with http.request(method, re.sub(r"\{\w+\}", "0" * 12, path), headers=headers) as answer:
                        await refusal(answer, 401)
                        assert answer.headers["WWW-Authenticate"] == "Bearer", (method, path)


async def test_a_key_that_may_only_read_changes_nothing(service: Service) -> None:
    async with service.client() as client:
        job = await client.create_job(**body())
        await client.pause(job.id)
    async with service.http(service.make_key(scopes=["read"])) as http:
        async with http.get(f"/api/v1/jobs/{job.id}") as answer:
            assert answer.status == 200
        for path in ("", f"/{job.id}/cancel", f"/{job.id}/resume", f"/{job.id}/pause"):
            async with http.post(f"/api/v1/jobs{path}", json=body()) as answer:
                assert (await refusal(answer, 403))["code"] == "forbidden"


async def test_no_path_leads_anywhere_else(service: Service) -> None:
    async with service.http() as http:
        for path in PATHS:
            url = URL(service.url + path, encoded=True)
            for method in ("GET", "POST", "DELETE"):
                async with http.request(method, url) as answer:
                    problem = await refusal(answer, 404, 405, 422)
                    assert "root:" not in problem["detail"]
                    assert "X-Planted" not in answer.headers


async def test_wrong_queries_are_refused_and_a_page_before_nothing_is_no_failure(service: Service) -> None:
    async with service.http() as http:
        for query in QUERIES:
            async with http.get(URL(f"{service.url}/api/v1/jobs?{query}", encoded=True)) as answer:
                await refusal(answer, 422)
        for before in ("nonsense", "%00", "%ff", "'--", UNKNOWN):
            async with http.get(URL(f"{service.url}/api/v1/jobs?before={before}", encoded=True)) as answer:
                assert answer.status in (200, 404, 422), (before, await answer.text())


async def test_a_wrong_last_event_id_is_refused(service: Service) -> None:
    async with service.client() as client:
        job = await client.create_job(**body())
        await client.cancel(job.id)
    async with service.http() as http:
        for last in ("-1", "abc", "9" * 30, "1.5", ""):
            url = f"/api/v1/jobs/{job.id}/events/stream"
            async with http.get(url, headers={"Last-Event-ID": last}) as answer:
                await refusal(answer, 422)


def bodies() -> list[Any]:
    """Bodies of the wrong type, at every place of a right one."""
    good = body()
    job = good["config"]["prompt_learning"]
    wrong: list[Any] = [None, [], "text", 7, {}, {"config": None}, {"config": []}, {"config": {}}]
    for value in (7, -1, [], {"a": []}, True, 1e308, [[[]]], {"": {}}, None, "x", "\x00", "é" * 10):
        wrong += [
            {**good, "config": {"prompt_learning": value}},
            {**good, "config": {"prompt_learning": {**job, "policy": value or 1}}},
            {**good, "rows": [value]},
            {**good, "no_such_field": value},
        ]
        if value is not None:
            wrong += [{**good, "rows": value}, {**good, "task_app": value}]
        if not isinstance(value, str):
            wrong += [{**good, "name": value}]
    return wrong


async def test_a_refusal_may_quote_what_is_no_text(service: Service) -> None:
    async with service.http() as http:
        for wrong in ({**config(), "a\ud800": 1}, config(mipro={"num_iterations": "\ud800"})):
            async with http.post("/api/v1/jobs", json={**body(), "config": wrong}) as answer:
                assert "\\ud800" in (await refusal(answer, 422))["detail"]


def deep(levels: int) -> str:
    return '{"config": ' + '{"a":' * levels + "1" + "}" * levels + "}"


async def test_a_body_of_the_wrong_type_is_refused(service: Service) -> None:
    async with service.http() as http:
        for wrong in bodies():
            async with http.post("/api/v1/jobs", json=wrong) as answer:
                await refusal(answer, 422)
        async with http.get("/api/v1/jobs") as answer:
            assert (await answer.json())["jobs"] == []


RAW = [
    b"",
    b"{",
    b"\xff\xfe",
    b'{"config": NaN}',
    b'{"config": 1e999}',
    b'{"config": {"prompt_learning": {"seed": ' + b"9" * 5000 + b"}}}",
    b'{"config": "\\ud800"}',
    b'{"name": "\\ud800\\u0000", "config": {"prompt_learning": {}}}',
    deep(200).encode(),
    deep(20_000).encode(),
    b"[" * 100_000,
]


async def test_what_is_no_usable_json_is_refused(service: Service) -> None:
    async with service.http() as http:
        for raw in RAW:
            for path in ("/api/v1/jobs", "/api/v1/keys", "/api/v1/env-keys"):
                for kind in ("application/json", "text/plain"):
                    async with http.post(path, data=raw, headers={"Content-Type": kind}) as answer:
                        await refusal(answer, 400, 422)
    await still_well(service)


async def test_odd_text_in_rows_and_prompts_breaks_nothing(service: Service) -> None:
    """What JSON can say and databases or UTF-8 cannot: NUL and half a surrogate pair."""
    for odd in ("\x00", "\\ud800", "\u202e", "{", "{{}}", "%s", "'; DROP TABLE jobs; --"):
        given = body(topic="odd")
        given["rows"] = [{**row, "text": f"{row['text']} ODD"} for row in given["rows"]]
        given["name"] = "ODD"
        raw = json.dumps(given).replace("ODD", odd if odd.startswith("\\") else json.dumps(odd)[1:-1])
        headers = {"Content-Type": "application/json"}
        async with service.http() as http, http.post("/api/v1/jobs", data=raw, headers=headers) as answer:
            assert answer.status in (201, 422), (odd, await answer.text())
            if answer.status == 201:
                job_id = (await answer.json())["id"]
                async with http.post(f"/api/v1/jobs/{job_id}/cancel") as cancelled:
                    assert cancelled.status == 200, odd
                async with http.get(f"/api/v1/jobs/{job_id}/events") as events:
                    assert events.status == 200, odd
    await still_well(service)


async def test_no_job_reaches_files_or_code_of_the_server(service: Service) -> None:
    secrets = ["/etc/passwd", "../../../etc/passwd", "file:///etc/passwd", "~/.ssh/id_rsa", "/proc/self/environ"]
    async with service.http() as http:
        for table in (
            *({"dataset": {"path": path, "train": 1, "val": 1, "test": 1}} for path in secrets),
            *({"initial_prompt": {"path": path}} for path in secrets),
            {"score": {"metric": "os:system"}},
            {"score": {"metric": "builtins:exec"}},
            {"program": {"path": "subprocess:run"}},
            {"environment": {"name": "mcp", "command": "touch /tmp/planted"}},
            {"execution": {"store": "/tmp/elsewhere.db"}},
            {"policy": {"provider": "openai", "model": "m", "base_url": "http://169.254.169.254/v1"}},
            {"policy": {"provider": "openai", "model": "m", "api_key_env": "AWS_SECRET_ACCESS_KEY"}},
        ):
            job = config()["prompt_learning"]
            for name, value in table.items():
                job[name] = {**job.get(name, {}), **value} if isinstance(value, dict) else value
            rows = {} if "dataset" in table else {"rows": body()["rows"]}
            async with http.post("/api/v1/jobs", json={"config": {"prompt_learning": job}, **rows}) as answer:
                assert "root:" not in (await refusal(answer, 422))["detail"], table


async def test_a_job_does_not_choose_where_its_files_go(service: Service, tmp_path: Path) -> None:
    given = body()
    given["config"]["prompt_learning"]["results_folder"] = str(tmp_path / "elsewhere")
    async with service.http() as http, http.post("/api/v1/jobs", json=given) as answer:
        if answer.status == 201:
            async with service.client() as client:
                job = await client.wait_for((await answer.json())["id"], poll_s=0.02)
            assert job.status == "succeeded"
    assert not (tmp_path / "elsewhere").exists()


async def test_bodies_over_the_limit_and_slow_ones_are_refused_while_others_are_served(start: Start) -> None:
    service = await start(max_body_bytes=20_000, body_timeout_s=1.0)
    port = URL(service.url).port
    head = f"POST /api/v1/jobs HTTP/1.1\r\nHost: x\r\nX-API-Key: {service.key}\r\nContent-Length: 500\r\n\r\n"
    slow = []
    for _ in range(50):  # each speaks at once: a connection that says nothing for so long is closed without a word
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode() + b'{"conf')
        slow.append((reader, writer))
    async with service.http() as http, http.post("/api/v1/jobs", json={"name": "x" * 30_000}) as answer:
        assert (await refusal(answer, 413))["code"] == "body_too_large"
    await still_well(service)
    for reader, writer in slow:
        assert (await asyncio.wait_for(reader.readline(), 10)).startswith(b"HTTP/1.1 408")
        writer.close()


async def test_connections_that_say_nothing_or_nonsense_stop_nobody(service: Service) -> None:
    port = URL(service.url).port
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
    for number, (_, writer) in enumerate(idle):
        writer.write([b"", b"GET / HT", b"\x16\x03\x01\x02\x00", b"A" * 10_000, b"GET /\r\n\r\n"][number % 5])
    await still_well(service)
    for _, writer in idle:
        writer.close()


async def test_a_listener_that_does_not_read_stops_nobody(service: Service) -> None:
    port = URL(service.url).port
    async with service.client() as client:
        job = await client.create_job(**body())
        deaf = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in deaf:
            path = f"/api/v1/jobs/{job.id}/events/stream"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-API-Key: {service.key}\r\n\r\n".encode())
        seen = [event.seq async for event in client.stream(job.id)]
        assert seen == list(range(1, len(seen) + 1))
        assert (await client.wait_for(job.id, poll_s=0.01)).status == "succeeded"
    for _, writer in deaf:
        writer.close()
