from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest

from rollouts.dtypes import Request, Response
from rollouts.errors import AuthenticationFailed, ConfigError, RunLocked
from rollouts.experiments.sweep import config, subject
from rollouts.experiments.sweep.config import parse_experiment
from rollouts.experiments.sweep.records import EVENTS, SETTINGS, RunRecord, load_records, read_events
from rollouts.experiments.sweep.run import Runner, Sweep
from rollouts.store.locks import FileLocks
from tests.sweep.conftest import Making
from tests.sweep.desk import SMALL, DeskLLM, desk, rows


class Counting(DeskLLM):
    """Counts what all models of a test were asked and billed."""

    asked: ClassVar[Counter[tuple[int, str]]] = Counter()
    billed: ClassVar[Counter[str]] = Counter()
    crash_at: ClassVar[int | None] = None

    @classmethod
    def reset(cls, crash_at: int | None = None) -> type[Counting]:
        cls.asked, cls.billed, cls.crash_at = Counter(), Counter(), crash_at
        return cls

    async def complete(self, request: Request) -> Response:
        if self.crash_at is not None and self.asked.total() >= self.crash_at:
            raise KeyboardInterrupt
        self.asked[self._seed, request.key()] += 1
        response = await super().complete(request)
        self.billed += Counter(calls=1, tokens=response.usage.total_tokens, micros=response.cost_micros)
        return response


def outcome(records: Any) -> dict[str, Any]:
    """What must not depend on when and in what order things happened; templates have an id of chance."""
    return {record.run: (record.status, record.score, record.validation, texts(record)) for record in records}


def texts(record: RunRecord) -> Any:
    return {
        which: {name: {**template, "id": ""} for name, template in modules.items()}
        for which, modules in record.prompts.items()
    }


def run(made: Any) -> Sweep:
    return asyncio.run(made.run())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """The small experiment, undisturbed, its runs one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(config, "task_names", lambda: ("desk",))
        patch.setattr(subject, "load_task", lambda name: desk())
        experiment = parse_experiment({**SMALL, "jobs": 1})
        return run(Runner(experiment, tmp_path_factory.mktemp("whole")))


def test_every_run_leaves_a_record_of_what_it_did(runner: Making, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    sweep = run(runner(told=lambda record, ended, total: told.append((record.run, ended, total))))
    assert [ended for _, ended, _ in told] == [1, 2, 3, 4, 5, 6]
    assert (len(sweep.records), sweep.left) == (6, 0)
    by_run = {record.run: record for record in sweep.records}
    start, searched = by_run["start-s0"], by_run["adaptive-small-s0"]
    assert start.score == start.start
    assert start.spend["rollouts"] == 12
    assert searched.score is not None
    assert searched.score["n"] == 12
    assert searched.spend["rollouts"] <= 80
    assert {line["module"] for line in searched.bottleneck} == {"reader", "router", "writer"}
    assert [event["round"] for event in searched.allocation] == list(range(1, len(searched.allocation) + 1))
    assert all(event["spend"] for event in searched.allocation)
    columns = by_run["mipro-small-s0"].convergence
    assert len({len(column) for column in columns.values()}) == 1
    assert columns["rollouts"] == sorted(columns["rollouts"])
    took = searched.rollout["best"]
    assert took["n"] > 0
    assert 0 < took["p50_s"] <= took["p95_s"]
    assert set(searched.prompts["best"]) == {"reader", "router", "writer"}
    assert load_records(tmp_path / "out") == [RunRecord.from_json(json.dumps(r.to_json())) for r in ordered(sweep)]
    kinds = {event["kind"] for event in read_events(tmp_path / "out" / EVENTS)}
    assert {"opened", "started", "trial", "allocation", "verdict", "done", "closed"} <= kinds
    stored = json.loads((tmp_path / "out" / SETTINGS).read_text())["config"]
    assert stored["methods"]["adaptive"]["round_trials"] == 8


def ordered(sweep: Sweep) -> list[RunRecord]:
    methods = list(SMALL["methods"])
    return sorted(sweep.records, key=lambda record: (methods.index(record.method), record.seed))


@pytest.mark.slow
def test_the_answer_does_not_depend_on_how_many_run_at_once(runner: Making, whole: Sweep) -> None:
    together = run(runner(jobs=6, folder="together"))
    assert outcome(whole.records) == outcome(together.records)


@pytest.mark.parametrize(
    "resource", ["micros", *(pytest.param(r, marks=pytest.mark.slow) for r in ("rollouts", "calls", "tokens"))]
)
@pytest.mark.parametrize("share", [pytest.param(0.15, marks=pytest.mark.slow), 0.5])
def test_the_total_is_never_passed(runner: Making, tasks: Any, whole: Sweep, resource: str, share: float) -> None:
    cap = int(share * getattr(whole.spend, resource))
    key = {"micros": "max_cost_usd"}.get(resource, f"max_{resource}")
    tasks(Counting.reset())
    sweep = run(runner(total={key: cap / 1e6 if resource == "micros" else cap}))
    assert getattr(sweep.spend, resource) <= cap
    assert resource == "rollouts" or Counting.billed[resource] == getattr(sweep.spend, resource)
    assert sweep.spend.calls == Counting.billed["calls"]


@pytest.mark.slow
def test_runs_that_the_total_does_not_pay_for_are_skipped_and_made_up_for(runner: Making, whole: Sweep) -> None:
    sweep = run(runner(total={"max_rollouts": 150}))
    skipped = [record for record in sweep.records if record.status == "skipped"]
    assert skipped
    assert sweep.left == len(skipped)
    assert all("total budget" in record.error for record in skipped)
    again = run(runner(resume=True, total={"max_rollouts": 2000}))
    assert again.left == 0
    assert outcome(again.records) == outcome(whole.records)


@pytest.mark.parametrize(
    "crash_at", [pytest.param(5, marks=pytest.mark.slow), 60, pytest.param(150, marks=pytest.mark.slow)]
)
def test_after_a_crash_nothing_is_paid_twice_and_the_result_is_the_same(
    runner: Making, tasks: Any, crash_at: int
) -> None:
    ample = {"budgets": {"small": {"max_calls": 5000}}}
    undisturbed = run(runner(folder="whole", **ample))
    tasks(Counting.reset(crash_at))
    with pytest.raises(KeyboardInterrupt):
        run(runner(**ample))
    before = Counting.asked.total()
    tasks(Counting.reset())
    sweep = run(runner(resume=True, **ample))
    assert outcome(sweep.records) == outcome(undisturbed.records)
    in_flight = 8 * 2
    assert before + Counting.asked.total() <= undisturbed.spend.calls + in_flight


def test_a_run_that_is_done_is_not_touched_again(runner: Making, tasks: Any) -> None:
    first = run(runner())
    tasks(Counting.reset())
    again = run(runner(resume=True))
    assert Counting.asked.total() == 0
    assert outcome(again.records) == outcome(first.records)
    assert (again.spend, again.left) == (first.spend, 0)


@pytest.mark.slow
def test_more_seeds_are_added_to_what_is_there(runner: Making, tasks: Any) -> None:
    run(runner(seeds=1))
    tasks(Counting.reset())
    sweep = run(runner(resume=True, seeds=2))
    assert len(sweep.records) == 6
    assert {seed for seed, _ in Counting.asked} == {1}


def test_the_seeds_of_all_folds_test_every_row_once(runner: Making, tasks: Any) -> None:
    methods = {"mipro": SMALL["methods"]["mipro"]}
    sweep = run(
        runner(
            seeds=3, data={"folds": 3, "train": 6, "val": 6}, methods=methods, budgets={"large": {"max_rollouts": 400}}
        )
    )
    assert [record.status for record in sweep.records] == ["done"] * 3
    assert sum(record.score["n"] for record in sweep.records) == len(rows())


@pytest.mark.slow
def test_a_stop_leaves_runs_that_go_on(runner: Making, tasks: Any) -> None:
    ample = {"budgets": {"small": {"max_calls": 5000}}}
    whole = run(runner(folder="whole", **ample))
    made: list[Any] = []

    class Stopping(Counting):
        async def complete(self, request: Request) -> Response:
            if self.asked.total() == 60:
                made[0].stop()
            return await super().complete(request)

    tasks(Stopping.reset())
    made.append(runner(jobs=1, **ample))
    stopped = run(made[0])
    assert 0 < stopped.left < 6
    tasks(Counting.reset())
    assert outcome(run(runner(resume=True, **ample)).records) == outcome(whole.records)


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_tried_again(runner: Making, tasks: Any) -> None:
    class Refusing(DeskLLM):
        async def complete(self, request: Request) -> Response:
            if self._seed == 1:
                raise AuthenticationFailed("the key is not valid", status=401)
            return await super().complete(request)

    tasks(Refusing)
    sweep = run(runner())
    failed = [record for record in sweep.records if record.status == "failed"]
    assert {record.seed for record in failed} == {1}
    assert all("the key is not valid" in record.error for record in failed)
    assert sweep.left == len(failed) == 3
    tasks(DeskLLM)
    assert run(runner(resume=True)).left == 0


def test_a_folder_is_taken_up_only_when_asked_and_only_by_the_same_experiment(runner: Making) -> None:
    run(runner(seeds=1))
    with pytest.raises(ConfigError, match="--resume"):
        run(runner(seeds=1))
    other = {**SMALL["methods"], "mipro": {**SMALL["methods"]["mipro"], "num_trials": 5}}
    with pytest.raises(ConfigError, match="mipro-small-s0 was made with other settings \\(method\\)"):
        run(runner(resume=True, seeds=1, methods=other))


def test_one_process_works_in_a_folder(runner: Making, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    locks = FileLocks(tmp_path / "out" / SETTINGS)
    locks.take("lock")
    with pytest.raises(RunLocked):
        run(runner())
    locks.give_all()
