"""What every store does, whatever it is made of."""

from __future__ import annotations

import itertools
import math
import random
import threading
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rollouts.errors import ConfigError, RunLocked, RunNotFound, StoreError
from rollouts.store import EventRow, GenerationRow, RolloutRow, Store, UseRow, open_store
from tests.store.rows import event, failed, generation, program, rollout, run, sample


def keys(rows: object) -> list[str]:
    return [row.key for row in rows]  # type: ignore[attr-defined]


def test_what_is_recorded_is_found(store: Store) -> None:
    rows = rollout("a"), generation("b", request={"messages": ["hi"]}), program("c"), event(1), sample("d")
    store.record(*rows)
    store.flush()
    assert store.rollouts(["a", "none"]) == {"a": rows[0]}
    assert store.generations(["b", "none"]) == {"b": rows[1]}
    assert store.programs(["c", "none"]) == {"c": rows[2]}
    assert store.events("run-1") == [rows[3]]
    assert store.samples(["d", "none"]) == {"d": rows[4]}


@pytest.mark.parametrize("value", [None, "", "a\x00b\ud800", 0, False, ["é", {"a": None}], {"b": 1.5}])
def test_a_sample_is_kept_as_it_is(store: Store, value: object) -> None:
    row = sample("d", inputs={"text": value}, ground_truth=value)
    store.record(row, sample("d", inputs={}))
    store.flush()
    assert store.samples(["d"]) == {"d": row}


def test_queued_rows_are_found_before_they_are_flushed(store: Store) -> None:
    for number in range(200):
        store.record(rollout(f"r{number}"), generation(f"g{number}"), program(f"p{number}"), sample(f"s{number}"))
        assert store.rollouts([f"r{number}"]).keys() == {f"r{number}"}
        assert store.generations([f"g{number}"]).keys() == {f"g{number}"}
        assert store.programs([f"p{number}"]).keys() == {f"p{number}"}
        assert store.samples([f"s{number}"]).keys() == {f"s{number}"}


def test_no_key_finds_nothing(store: Store) -> None:
    store.record(rollout("a"))
    assert (store.rollouts([]), store.generations([]), store.programs([])) == ({}, {}, {})


def test_many_keys_at_once(store: Store) -> None:
    wanted = [f"k{number}" for number in range(1111)]
    store.record(*map(rollout, wanted))
    store.flush()
    assert store.rollouts([*wanted, *wanted[:5], "none"]).keys() == set(wanted)


@pytest.mark.parametrize("flushes", [True, False])
def test_a_success_replaces_a_failure_and_nothing_else_replaces(store: Store, flushes: bool) -> None:
    steps = failed("a"), failed("a", output="2"), rollout("a", score=0.1), rollout("a", score=0.9), failed("a")
    for row in steps:
        store.record(row)
        if flushes:
            store.flush()
    store.flush()
    assert store.rollouts(["a"]) == {"a": steps[2]}
    assert list(store.scan_rollouts("run-1")) == [steps[2]]


def test_failures_are_listed_but_never_served(store: Store) -> None:
    store.record(failed("a"))
    assert store.rollouts(["a"]) == {}
    store.flush()
    assert store.rollouts(["a"]) == {}
    assert list(store.scan_rollouts("run-1")) == [failed("a")]


@pytest.mark.parametrize("flushes", [True, False])
def test_a_success_that_replaces_belongs_to_its_run_at_its_time(store: Store, flushes: bool) -> None:
    store.record(failed("a"), rollout("b"), rollout("c", run_id="run-2"))
    if flushes:
        store.flush()
    store.record(rollout("a", run_id="run-2"), rollout("d", run_id="run-2"))
    store.flush()
    assert keys(store.scan_rollouts("run-1")) == ["b"]
    assert keys(store.scan_rollouts("run-2")) == ["c", "a", "d"]


def test_known_rows_of_other_kinds_stay(store: Store) -> None:
    store.record(generation("a"), program("p"), event(1))
    store.flush()
    store.record(generation("a", model="other"), program("p", modules={}), event(1, kind="other"))
    store.flush()
    assert store.generations(["a"]) == {"a": generation("a")}
    assert store.programs(["p"]) == {"p": program("p")}
    assert store.events("run-1") == [event(1)]
    assert list(store.scan_generations("run-1")) == [generation("a")]


def test_one_key_twice_in_one_call(store: Store) -> None:
    store.record(failed("a"), rollout("a"), failed("a"), generation("g"), generation("g", model="other"))
    store.flush()
    assert store.rollouts(["a"]) == {"a": rollout("a")}
    assert list(store.scan_generations("run-1")) == [generation("g")]


def test_scan_is_in_order_and_filters(store: Store) -> None:
    rows = [
        (failed if number % 3 == 0 else rollout)(f"{number * 7919 % 101:03}", program=f"p{number % 2}")
        for number in range(50)
    ]
    store.record(*rows, rollout("other", run_id="run-2"))
    store.flush()
    for page in (1, 7, 25, 50, 1000):
        assert list(store.scan_rollouts("run-1", page=page)) == rows
        for program_ in ("p0", "p1", "p2"):
            for wanted in (None, True, False):
                found = list(store.scan_rollouts("run-1", program=program_, failed=wanted, page=page))
                expected = [row for row in rows if row.program == program_]
                assert found == [row for row in expected if wanted in (None, row.failure is not None)]


def test_used_rollouts_follow_the_paid_ones(store: Store) -> None:
    store.record(rollout("z"), rollout("y"), rollout("x"), rollout("own", run_id="run-2"))
    store.record(*(UseRow(run_id="run-2", key=key) for key in ("y", "own", "z", "y", "unknown")))
    store.flush()
    for page in (1, 2, 1000):
        assert keys(store.scan_rollouts("run-2", page=page)) == ["own", "y", "z"]
    assert keys(store.scan_rollouts("run-1")) == ["z", "y", "x"]
    assert keys(store.scan_rollouts("run-2", failed=True)) == []


def test_a_rollout_has_the_phase_of_the_run_that_is_looked_at(store: Store) -> None:
    store.record(rollout("a", phase="search"), rollout("b", run_id="run-2", phase="baseline"))
    store.record(UseRow(run_id="run-2", key="a", phase="test"), UseRow(run_id="run-2", key="a", phase="later"))
    store.flush()
    phases = {run: [row.phase for row in store.scan_rollouts(run)] for run in ("run-1", "run-2")}
    assert phases == {"run-1": ["search"], "run-2": ["baseline", "test"]}


def test_generations_by_phase(store: Store) -> None:
    store.record(*(generation(f"g{number}", phase=["task", "judge"][number % 2]) for number in range(9)))
    store.flush()
    assert keys(store.scan_generations("run-1", page=2)) == [f"g{number}" for number in range(9)]
    assert keys(store.scan_generations("run-1", phase="judge", page=2)) == ["g1", "g3", "g5", "g7"]
    assert keys(store.scan_generations("run-2")) == []


def test_events_go_on_after_a_number(store: Store) -> None:
    store.record(event(3), event(1), event(2), event(1, run_id="run-2"))
    store.flush()
    assert store.events("run-1") == [event(1), event(2), event(3)]
    assert store.events("run-1", after=1, limit=1) == [event(2)]
    assert store.events("run-1", after=3) == []


def test_runs_newest_first_in_pages(store: Store) -> None:
    made = [
        run(f"r{number}", created_at=float(number // 2), status=["done", "failed"][number % 2]) for number in range(9)
    ]
    for row in made:
        store.create_run(row)
    newest = made[::-1]
    assert store.runs() == newest
    assert store.runs(limit=4) == newest[:4]
    assert store.runs(limit=4, before=newest[3].id) == newest[4:8]
    assert store.runs(before=newest[-1].id) == []
    assert (
        store.runs(status="failed", limit=2, before=newest[0].id) == [r for r in newest[1:] if r.status == "failed"][:2]
    )
    with pytest.raises(RunNotFound, match="nothing"):
        store.runs(before="nothing")


def test_a_run_is_found_by_the_start_of_its_id(store: Store) -> None:
    for id_ in ("20260101-aaaa", "20260102-abcd", "20260102-abce", "20260102"):
        store.create_run(run(id_))
    assert store.run("20260101").id == "20260101-aaaa"
    assert store.run("20260102").id == "20260102"
    with pytest.raises(RunNotFound, match="20260102-abcd, 20260102-abce"):
        store.run("20260102-a")
    with pytest.raises(RunNotFound, match="20260101-aaaa"):
        store.run("20260101-aaab")
    for wrong in ("", "%", "_", "20260101_"):
        with pytest.raises(RunNotFound):
            store.run(wrong)


def test_a_run_changes(store: Store) -> None:
    store.create_run(run())
    changes = {"status": "done", "elapsed_s": 2.5, "authorised": {"calls": 9}, "summary": {"best": "é"}, "name": "x"}
    store.update_run("run-1", **changes)
    store.update_run("run-1", updated_at=5.0)
    store.update_run("run-1")
    assert store.run("run-1") == replace(run(), **changes, updated_at=5.0)


def test_mistakes_with_runs(store: Store) -> None:
    store.create_run(run())
    with pytest.raises(StoreError, match="already"):
        store.create_run(run())
    for wrong in ({"id": "x"}, {"colour": "red"}):
        with pytest.raises(ConfigError, match="authorised"):
            store.update_run("run-1", **wrong)
    for changes in ({"status": "done"}, {}):
        with pytest.raises(RunNotFound):
            store.update_run("run", **changes)
    assert store.run("run-1") == run()


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_refused_and_harms_nothing(store: Store, score: float) -> None:
    with pytest.raises(StoreError, match="finite"):
        store.record(rollout("a"), rollout("b", score=score))
    store.record(rollout("c"))
    store.flush()
    assert keys(store.scan_rollouts("run-1")) == ["c"]


def test_only_rows_are_recorded(store: Store) -> None:
    with pytest.raises(StoreError, match="RunRow"):
        store.record(run())  # type: ignore[arg-type]
    store.record()
    store.flush()


def test_a_run_is_locked_once(store: Store) -> None:
    store.lock_run("run-1")
    store.lock_run("run/2 ü")
    with pytest.raises(RunLocked, match="run-1"):
        store.lock_run("run-1")
    store.unlock_run("run-1")
    store.unlock_run("run-1")
    store.lock_run("run-1")


def test_a_closed_store_takes_nothing(store: Store) -> None:
    store.record(rollout("a"))
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.record(rollout("b"))


_marks = itertools.count()
text = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
numbers = st.integers(-(2**63), 2**63 - 1)
reals = st.floats(allow_nan=False, allow_infinity=False)
json = st.dictionaries(
    st.text(max_size=5),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**30), 10**30) | reals | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=5,
    ),
    max_size=3,
)
use = {
    "prompt_tokens": numbers,
    "completion_tokens": numbers,
    "cached_tokens": numbers,
    "cost_micros": numbers,
    "latency_s": reals,
    "created_at": reals,
}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    row=st.builds(
        RolloutRow, key=text, run_id=text, program=text, sample_id=text, repeat=numbers, score=reals, output=text,
        failure=st.none() | json, data=json, **use,
    ),
    call=st.builds(
        GenerationRow, key=text, run_id=text, phase=text, model=text, request=st.none() | json, response=json, **use
    ),
    happening=st.builds(EventRow, run_id=text, seq=st.integers(1, 2**63 - 1), kind=text, data=json, created_at=reals),
)  # fmt: skip
def test_rows_come_back_as_they_were(store: Store, row: RolloutRow, call: GenerationRow, happening: EventRow) -> None:
    mark = f"{next(_marks)} "
    row, call = (replace(each, key=mark + each.key, run_id=mark + each.run_id) for each in (row, call))
    happening = replace(happening, run_id=mark + happening.run_id)
    store.record(row, call, happening)
    store.flush()
    assert list(store.scan_rollouts(row.run_id)) == [row]
    assert store.rollouts([row.key]) == ({row.key: row} if row.failure is None else {})
    assert store.generations([call.key]) == {call.key: call}
    assert store.events(happening.run_id) == [happening]


def test_the_same_content_from_many_runs_at_once(place: str) -> None:
    """Every run stores its samples in an order of its own."""
    stores = [open_store(place) for _ in range(4)]
    together, broken = threading.Barrier(len(stores)), []

    def write(number: int) -> None:
        rows = [sample(f"s{at}", inputs={"text": "x" * 1000}) for at in range(300)]
        random.Random(number).shuffle(rows)
        together.wait()
        try:
            stores[number].record(*rows)
            stores[number].flush()
        except StoreError as error:
            broken.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken == []
    assert len(stores[0].samples([f"s{at}" for at in range(300)])) == 300
    for store in stores:
        store.close()
