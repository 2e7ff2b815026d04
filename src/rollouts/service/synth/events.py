"""From the core's events to those that the synth-ai SDK knows by name. Pure.

There are two families of names: that of SDK 0.4 ("legacy") and that of 0.6 and 0.7 ("canonical"). A job speaks one of
them all its life, that of the path it was created on, because clients read the events of either by the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from rollouts.prompt_optimization.proposers.lost import Lost
from rollouts.service.jobs import ENDED, JobRow
from rollouts.service.synth.endings import failure, results
from rollouts.service.synth.names import Family, Told, name_of
from rollouts.store import EventRow

JSON = dict[str, Any]
FAMILIES: tuple[Family, ...] = get_args(Family)
SYNTH = "synth"
"""Key of a job's config under which these routes keep `family` and `warnings`."""


def translated(job: JobRow, rows: Sequence[EventRow], *, over: bool) -> list[JSON]:
    """All events of a job whose whole log so far is `rows`; `over` says that there will be no more."""
    translation = Translation(job)
    events = [*translation.begin(job), *(event for row in rows for event in translation.add(row, job))]
    return [*events, *(translation.end(job) if over else ())]


class Translation:
    """Reads a job's log from its first event on, and tells it under other names.

    Numbers rise by 1 from 1, whatever was asked before: the same log gives the same events. The event that ends the job
    is the last one.
    """

    def __init__(self, job: JobRow) -> None:
        own = of_synth(job)
        self.family: Family = own.get("family", "canonical")
        self.algorithm = algorithm_of(job)
        self.seq = 0
        self._job_id = job.id
        self._phase = ""
        self._status = ""
        self._plans: JSON = {"num_iterations": 0, "num_trials_per_iteration": 1}
        self._trials = 0
        self._best: float | None = None
        self._ended = False

    def begin(self, job: JobRow) -> list[JSON]:
        """What comes before the log: the job, and what of its settings has no effect."""
        told = [Told("created", f"job {job.id} is created", {"algorithm": self.algorithm, "name": job.name})]
        told += [Told("warning", text, {"warning": text}, "warn") for text in of_synth(job).get("warnings", ())]
        return [self._event(each, job.created_at) for each in told]

    def add(self, row: EventRow, job: JobRow) -> list[JSON]:
        """What one more event of the log says; `job` as it is now."""
        told = _KINDS.get(row.kind)
        parts = list(told(self, row.data)) if told is not None else []
        events = [self._event(each, row.created_at) for each in parts]
        if row.kind == "job" and row.data["status"] in ("succeeded", "failed"):
            events += self._over(job, row.data["status"], row.created_at)
        return events

    def end(self, job: JobRow) -> list[JSON]:
        """What is still to be said of a job that is over, when its log has been read."""
        return [] if self._ended else self._over(job, job.status, job.finished_at or job.created_at)

    def _over(self, job: JobRow, status: str, when: float) -> list[JSON]:
        self._ended = True
        told = failure(job) if status == "failed" else results(job, self.family, self.algorithm, status)
        return [self._event(each, when) for each in told]

    def _event(self, told: Told, when: float) -> JSON:
        self.seq += 1
        moment = iso(when)
        return {
            "seq": self.seq,
            "job_id": self._job_id,
            "run_id": self._job_id,
            "type": name_of(told.name, self.family, self.algorithm),
            "level": told.level,
            "message": told.message,
            "data": dict(told.data),
            "created_at": moment,
            "ts": moment,
        }

    def _job(self, data: Mapping[str, Any]) -> Iterator[Told]:
        """A change of status; the end is told by `_over`."""
        status, before = data["status"], self._status
        self._status = status
        if status in ENDED or status == before:
            return
        self._ended = False
        yield Told(status, f"job is {status}", {"status": status})

    def _plan(self, data: Mapping[str, Any]) -> Iterator[Told]:
        trials, most = data.get("trials", 0), data.get("total")
        self._plans |= {"num_iterations": trials, "batch_size": data.get("minibatch"), "max_rollouts": most}
        yield Told("planned", f"{trials} trials, at most {most} rollouts", dict(self._plans))

    def _enter(self, data: Mapping[str, Any]) -> Iterator[Told]:
        phase = data["phase"]
        before, self._phase = self._phase, phase
        change = {"phase": phase, "from_phase": before or None, "to_phase": phase}
        yield Told("phase", f"phase {phase}", change)

    def _demo_sets(self, data: Mapping[str, Any]) -> Iterator[Told]:
        count = sum(map(len, data["sources"].values()))
        yield Told("bootstrapped", f"{data['successes']} good answers, {count} demonstration sets", data)

    def _proposals(self, data: Mapping[str, Any]) -> Iterator[Told]:
        yield Told("proposed", f"{data['added']} instructions proposed", data)

    def _proposal_lost(self, data: Mapping[str, Any]) -> Iterator[Told]:
        text = f"a proposal failed: {Lost(data['reason'], data['detail'])}"
        yield Told("warning", text, {"warning": text}, "warn")

    def _trial(self, data: Mapping[str, Any]) -> Iterator[Told]:
        number = data["trial"] - 1
        where = {"iteration": number, "trial": 0}
        self._trials = max(self._trials, data["trial"])
        yield Told("iteration_started", f"trial {data['trial']}", {"iteration": number, **self._plans})
        score = {"score": data["score"], "minibatch_score": data["score"], "num_seeds": data["scored"]}
        yield Told("trial", f"trial {data['trial']}: {_shown(data['score'])}", {**where, **score})
        yield from self._improved(data, where)
        done = {"iteration": number, "cumulative": self._trials, "best_score": data["best"]}
        yield Told("iteration_completed", f"best so far: {_shown(data['best'])}", done)

    def _generation(self, data: Mapping[str, Any]) -> Iterator[Told]:
        self._trials = max(self._trials, data["trial"])
        mean = {"mean": data["score"], "completed": data["scored"], "total": data["scored"]}
        done = {**mean, "generation": data["trial"], "front": data.get("front"), "best_score": data["best"]}
        yield Told("generation", f"generation {data['trial']}: best {_shown(data['best'])}", done)
        yield from self._improved(data, {"generation": data["trial"]})
        planned = self._plans["num_iterations"]
        share = min(1.0, self._trials / planned) if planned else 0.0
        yield Told("progress", "", {"step": self._trials, "total_steps": planned, "percent_overall": share})

    def _improved(self, data: Mapping[str, Any], where: Mapping[str, Any]) -> Iterator[Told]:
        best, before = data["best"], self._best
        if best is None or (before is not None and best <= before):
            return
        self._best = best
        scores = {"best_score": best, "minibatch_score": best, "accuracy": best, "previous_best_score": before}
        gain = {} if before is None else {"improvement": best - before}
        more = {"cumulative_trials": self._trials, "num_seeds": data["scored"]}
        named = {"version_id": "-".join(map(str, data.get("best_candidate", ())))}
        yield Told("new_best", f"new best: {_shown(best)}", {**where, **scores, **gain, **more, **named})

    def _child(self, data: Mapping[str, Any]) -> Iterator[Told]:
        known = {name: data.get(name) for name in ("accepted", "reason", "parents", "origin", "minibatch", "gap")}
        named = {"candidate_id": data.get("id"), "generation": self._trials + 1}
        said = "accepted" if data.get("accepted") else f"rejected: {data.get('reason')}"
        yield Told("candidate", f"candidate {data.get('child')} {said}", {**known, **named})

    def _stopping(self, data: Mapping[str, Any]) -> Iterator[Told]:
        yield Told("stopping", f"stopping: {data['reason']}", data)

    def _any_trial(self, data: Mapping[str, Any]) -> Iterator[Told]:
        return self._generation(data) if self.algorithm == "gepa" else self._trial(data)


_KINDS: Mapping[str, Callable[[Translation, Mapping[str, Any]], Iterator[Told]]] = {
    "job": Translation._job,
    "plan": Translation._plan,
    "phase": Translation._enter,
    "demo_sets": Translation._demo_sets,
    "proposals": Translation._proposals,
    "proposal_lost": Translation._proposal_lost,
    "trial": Translation._any_trial,
    "child": Translation._child,
    "stopping": Translation._stopping,
}


def of_synth(job: JobRow) -> Mapping[str, Any]:
    """What the SDK's routes keep with a job; empty for jobs that came another way."""
    found = job.config.get(SYNTH)
    return found if isinstance(found, Mapping) else {}


def algorithm_of(job: JobRow) -> Literal["mipro", "gepa"]:
    """Which of the SDK's two searches a job is told as."""
    tables = job.config.get("config", {}).values()
    named = {table.get("algorithm") for table in tables if isinstance(table, Mapping)}
    return "gepa" if "gepa" in named else "mipro"


def metrics(rows: Sequence[EventRow], algorithm: str) -> list[JSON]:
    """The scores over the trials, as points of the SDK's metrics."""
    points: list[JSON] = []
    for row in rows:
        if row.kind != "trial":
            continue
        values = {"trial_score": row.data["score"], "best_score": row.data["best"]}
        points += [
            {
                "name": f"{algorithm}.{name}",
                "value": value,
                "step": row.data["trial"],
                "phase": "optimization",
                "created_at": iso(row.created_at),
                "data": {"n": row.data["scored"]},
            }
            for name, value in values.items()
            if value is not None
        ]
    return points


def iso(when: float) -> str:
    """A time as the SDK writes times."""
    return datetime.fromtimestamp(when, UTC).isoformat()


def _shown(score: float | None) -> str:
    return "no score" if score is None else f"{score:.4f}"
