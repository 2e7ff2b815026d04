"""A job's life over real HTTP."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rollouts.errors import ServiceError
from rollouts.testing import MockProvider
from tests.service.conftest import Service, Start
from tests.service.world import body, config, rows

NEW = body()


async def until(condition: Any, *, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


async def test_from_order_to_result(service: Service, provider: MockProvider) -> None:
    async with service.client() as client:
        job = await client.create_job(NEW["config"], rows=NEW["rows"], name="tickets")
        assert (job.status, job.name) == ("queued", "tickets")
        events = [event async for event in client.stream(job.id)]
        done = await client.job(job.id)
        assert (done.status, done.data["verdict"]) == ("succeeded", "ship")
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        statuses = [event.data["status"] for event in events if event.kind == "job"]
        assert statuses == ["queued", "running", "succeeded"]
        assert [event.seq async for event in client.events(job.id)] == [event.seq for event in events]

        results, best = await client.results(job.id), await client.best_prompt(job.id)
        assert results["files"]["best_prompt.json"] == best["prompt"]
        assert best["score"] == done.best_score == results["summary"]["best_score"]
        assert set(results["files"]) >= {"score_history.json", "selected_demos.json", "job_metadata.json"}
        tried = await client.candidates(job.id)
        assert tried["final"]
        assert tried["candidates"][0]["score"] >= tried["candidates"][-1]["score"]
        spent = await client.spend(job.id)
        assert spent["total"]["calls"] == provider.calls
        assert spent["total"]["micros"] == provider.micros
        assert sum(part["micros"] for part in spent["by_phase"].values()) == provider.micros
        assert spent["caps"] == {
            "budget": None,
            "max_calls": 100_000,
            "max_tokens": None,
            "max_cost_usd": None,
            "max_time_seconds": None,
        }
    folder = service.state.settings.results_dir / job.id
    assert json.loads((folder / "best_prompt.json").read_text()) == best["prompt"]


async def test_a_stream_goes_on_where_it_was(service: Service) -> None:
    async with service.client() as client, service.http() as http:
        job = await client.create_job(NEW["config"], rows=NEW["rows"])
        await client.wait_for(job.id, poll_s=0.02)
        path = f"/api/v1/jobs/{job.id}/events/stream"
        whole = (await (await http.get(path)).text()).split("\n\n")
        later = (await (await http.get(path, headers={"Last-Event-ID": "5"})).text()).split("\n\n")
        assert whole[0] == later[0] == "retry: 2000"
        assert later[1:] == whole[6:]
        assert later[1].startswith("id: 6\n")
        assert later[-2].startswith("event: end\ndata: {")
        page = await (await http.get(f"/api/v1/jobs/{job.id}/events?since_seq=5&limit=2")).json()
        assert ([event["seq"] for event in page["events"]], page["next_seq"], page["ended"]) == ([6, 7], 7, False)
        last = await (await http.get(f"/api/v1/jobs/{job.id}/events?since_seq=100000")).json()
        assert last == {"events": [], "next_seq": 100000, "ended": True}


async def test_jobs_are_listed_in_pages(start: Start, provider: MockProvider) -> None:
    provider._faults = {"hang": 1.0}
    service = await start(max_jobs=1)
    async with service.client() as client, service.http() as http:
        made = [(await client.create_job(NEW["config"], rows=NEW["rows"])).id for _ in range(3)]
        first = await (await http.get("/api/v1/jobs?limit=2")).json()
        assert [job["id"] for job in first["jobs"]] == [made[2], made[1]]
        second = await (await http.get(f"/api/v1/jobs?limit=2&before={first['next']}")).json()
        assert [job["id"] for job in second["jobs"]] == [made[0]]
        assert second["next"] is None
        assert [job.id for job in await client.jobs(status="queued")] == [made[2], made[1]]
        assert await client.jobs(status="failed") == []


@pytest.mark.slow
async def test_equal_jobs_pay_once(service: Service, provider: MockProvider) -> None:
    async with service.client() as client:
        for _ in range(2):
            job = await client.create_job(NEW["config"], rows=NEW["rows"])
            await client.wait_for(job.id, poll_s=0.02)
            calls = provider.calls
        assert (await client.spend(job.id))["total"]["calls"] == 0
        assert provider.calls == calls
        assert (await client.candidates(job.id))["candidates"][0]["n"] > 0


async def test_pause_and_resume(start: Start, provider: MockProvider) -> None:
    provider._latency = 0.01
    service = await start()
    async with service.client() as client:
        whole = await client.create_job(NEW["config"], rows=NEW["rows"])
        await client.wait_for(whole.id, poll_s=0.02)
        expected, calls = await client.results(whole.id), provider.calls

    fresh = await start(store=str(service.state.settings.results_dir / "fresh.db"))
    async with fresh.client() as client:
        job = await client.create_job(NEW["config"], rows=NEW["rows"])
        await until(lambda: provider.calls > calls + 20)
        assert (await client.pause(job.id)).status == "paused"
        await until(lambda: not fresh.state.engine._active)
        paid = provider.calls
        with pytest.raises(ServiceError, match=r"is paused; only a job that is queued or running") as refused:
            await client.pause(job.id)
        assert (refused.value.status, refused.value.code) == (409, "wrong_state")
        assert (await client.spend(job.id))["total"]["calls"] == paid - calls
        assert (await client.resume(job.id)).status == "queued"
        assert (await client.wait_for(job.id, poll_s=0.02)).status == "succeeded"
        results = await client.results(job.id)
        assert results["summary"]["verdict"] == expected["summary"]["verdict"]
        assert results["files"]["best_prompt.json"] == expected["files"]["best_prompt.json"]
        assert provider.calls == 2 * calls, "proposals that were in flight are not paid twice either"


async def test_cancel_keeps_the_best_so_far(start: Start, provider: MockProvider) -> None:
    provider._latency = 0.02
    service = await start()
    async with service.client() as client:
        job = await client.create_job(NEW["config"], rows=NEW["rows"])
        await until(lambda: service.state.engine.study(job.id) and service.state.engine.study(job.id).best_score)
        assert (await client.cancel(job.id)).status == "cancelled"
        assert (await client.wait_for(job.id, poll_s=0.001)).status == "cancelled"
        calls = provider.calls
        best = await client.best_prompt(job.id)
        assert best["prompt"]["messages"]
        assert (await client.results(job.id))["summary"]["stop_reason"] == "cancelled"
        kinds = [event.data for event in [e async for e in client.stream(job.id)] if event.kind == "job"]
        assert kinds[-1] == {"status": "cancelled"}
        with pytest.raises(ServiceError, match="is cancelled"):
            await client.resume(job.id)
    assert provider.calls == calls


async def test_a_paused_job_that_is_cancelled_keeps_the_best_so_far(start: Start, provider: MockProvider) -> None:
    provider._latency = 0.01
    service = await start()
    async with service.client() as client:
        job = await client.create_job(NEW["config"], rows=NEW["rows"])
        await until(lambda: provider.calls > 40)
        await client.pause(job.id)
        await until(lambda: not service.state.engine._active)
        spent, calls = (await client.spend(job.id))["total"], provider.calls
        await client.cancel(job.id)
        assert (await client.wait_for(job.id, poll_s=0.001)).status == "cancelled"
        assert (await client.results(job.id))["summary"]["stop_reason"] == "cancelled"
        assert (await client.best_prompt(job.id))["prompt"]["messages"]
        assert (await client.spend(job.id))["total"] == spent
        with pytest.raises(ServiceError, match="is cancelled"):
            await client.resume(job.id)
    assert provider.calls == calls


async def test_what_hangs_is_cut_after_the_grace(start: Start, provider: MockProvider) -> None:
    provider._faults = {"hang": 1.0}
    service = await start(grace_s=0.05)
    async with service.client() as client:
        for order in ("cancel", "pause"):
            job = await client.create_job(NEW["config"], rows=NEW["rows"])
            await until(lambda: provider.in_flight > 0)
            await getattr(client, order)(job.id)
            await until(lambda: not service.state.engine._active)
            if order == "cancel":
                assert (await client.results(job.id))["summary"]["verdict"]["decision"] == "undecided"
                continue
            with pytest.raises(ServiceError, match="has no result"):
                await client.results(job.id)
        assert (await client.job(job.id)).status == "paused"
        assert (await client.cancel(job.id)).status == "cancelled"
        await until(lambda: service.state.engine.over(job.id))
        assert (await client.results(job.id))["summary"]["verdict"]["decision"] == "undecided", "nothing was scored"


async def test_a_failed_job_says_why_and_can_go_on(start: Start, provider: MockProvider) -> None:
    service = await start()
    provider._script.extend([401] * 50)
    async with service.client() as client:
        job = await client.create_job(NEW["config"], rows=NEW["rows"])
        failed = await client.wait_for(job.id, poll_s=0.02)
        assert failed.status == "failed"
        assert "401" in str(failed.error)
        provider._script.clear()
        await client.resume(job.id)
        ended = await client.wait_for(job.id, poll_s=0.02)
        assert (ended.status, ended.error) == ("succeeded", None)


async def test_an_order_of_a_queued_job(start: Start, provider: MockProvider) -> None:
    provider._faults = {"hang": 1.0}
    service = await start(max_jobs=1, grace_s=0.0)
    async with service.client() as client:
        first = await client.create_job(NEW["config"], rows=NEW["rows"])
        waiting = [await client.create_job(NEW["config"], rows=NEW["rows"]) for _ in range(2)]
        assert [job.status for job in await client.jobs()][:2] == ["queued", "queued"]
        await client.pause(waiting[0].id)
        await client.cancel(waiting[1].id)
        assert service.state.engine.over(waiting[1].id)
        await client.cancel(first.id)
        await until(lambda: not service.state.engine._active)
        assert (await client.job(waiting[0].id)).status == "paused"
        provider._faults = {}
        await client.resume(waiting[0].id)
        assert (await client.wait_for(waiting[0].id, poll_s=0.02)).status == "succeeded"


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21])
async def test_a_job_can_be_cancelled_before_it_runs(service: Service, turns: int) -> None:
    engine = service.state.engine
    row = await engine.submit("native", {"config": NEW["config"], "rows": NEW["rows"]}, owner="default")
    for _ in range(turns):
        await asyncio.sleep(0)
    engine.cancel(row.id, "default")
    await until(lambda: engine.over(row.id))
    assert not engine._active
    ended = service.state.jobs.get(row.id, "default")
    assert (ended.status, ended.over) == ("cancelled", True)


async def test_an_owner_sees_his_own_jobs_only(service: Service) -> None:
    async with service.client() as mine, service.client(service.make_key(owner="other")) as other:
        job = await mine.create_job(NEW["config"], rows=NEW["rows"])
        assert await other.jobs() == []
        for ask in (other.job, other.results, other.best_prompt, other.candidates, other.spend):
            with pytest.raises(ServiceError) as refused:
                await ask(job.id)
            assert (refused.value.status, refused.value.code) == (404, "not_found")
        for order in (other.cancel, other.pause, other.resume):
            with pytest.raises(ServiceError) as refused:
                await order(job.id)
            assert refused.value.status == 404
        with pytest.raises(ServiceError) as refused:
            _ = [event async for event in other.stream(job.id)]
        assert refused.value.status == 404


async def test_a_refused_job_leaves_nothing(service: Service) -> None:
    async with service.client() as client:
        with pytest.raises(ServiceError, match="allow_code") as refused:
            await client.create_job(config(score={"metric": "my.module:score"}), rows=rows())
        assert (refused.value.status, refused.value.code) == (422, "config_error")
        assert await client.jobs() == []
    assert list(service.state.settings.results_dir.glob("*")) == []


@pytest.mark.slow
async def test_text_that_no_database_holds(service: Service) -> None:
    async with service.client() as client:
        odd = [{"text": f"{row['text']} \ud800\x00", "label": row["label"]} for row in rows()]
        job = await client.create_job(config(initial_prompt={"system": "Route \ud800 it."}), rows=odd)
        ended = await client.wait_for(job.id, poll_s=0.02)
        assert ended.status == "succeeded", ended.error
        assert (await client.results(job.id))["files"]["best_prompt.json"]
        assert (await client.candidates(job.id))["candidates"]
        assert [event async for event in client.stream(job.id)]
        with pytest.raises(ServiceError, match="name") as refused:
            await client.create_job(config(), rows=odd, name="odd \ud800 name")
        assert refused.value.status == 422


@pytest.mark.slow
async def test_data_by_path_and_by_name(start: Start, tmp_path: Any) -> None:
    (tmp_path / "data").mkdir()
    lines = [f"{row['text']},{row['label']}" for row in rows()]
    (tmp_path / "data" / "rows.csv").write_text("\n".join(["text,label", *lines]))
    service = await start(data_dir=tmp_path / "data")
    async with service.client() as client:
        named = config(dataset={"name": "tickets"}, initial_prompt={"user": "Ticket: {ticket}"})
        for chosen in (config(dataset={"path": "rows.csv"}), named):
            job = await client.create_job(chosen)
            assert (await client.wait_for(job.id, poll_s=0.02)).status == "succeeded"
            metadata = (await client.results(job.id))["files"]["job_metadata.json"]
            assert str(tmp_path) not in json.dumps(metadata)
