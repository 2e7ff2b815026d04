"""`rollouts runs`: what the store knows. Nothing here calls a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from rollouts.budget import Budget, Spend
from rollouts.cli import failures, reports, words
from rollouts.cli.lineage import lineage_table, trials_table
from rollouts.cli.running import is_store, place_of_store
from rollouts.errors import ConfigError, StoreError
from rollouts.experiments.config_keys import ALGORITHMS
from rollouts.experiments.export import (
    candidates_of,
    config_differences,
    prompt_diff,
    rollouts_json,
    stored_modules,
)
from rollouts.experiments.job import numbered
from rollouts.integrations.exports import FORMATS, export_prompt, known_format
from rollouts.stats import Interval
from rollouts.store import RunRow, Store, open_store

ROLLOUTS = "jsonl"
RUNNING, UNFINISHED = "running", "unfinished"
STATUSES = (RUNNING, UNFINISHED, "done", "stopped", "failed")
_PAGE = 100


@contextmanager
def stored(place: str | None) -> Iterator[Store]:
    """The store to read from; raises StoreError where there is none, instead of making an empty one."""
    where = place_of_store(place)
    if not is_store(where):
        raise StoreError(f"there is no store at {where}; name one with --store, or start a run that makes it")
    store = open_store(where)
    try:
        yield store
    finally:
        store.close()


def find(store: Store, name: str) -> RunRow:
    """The run with that id or beginning of an id; `latest` is the newest."""
    newest = store.runs(limit=1) if name == "latest" else []
    return newest[0] if newest else store.run(name)


def find_search(store: Store, name: str) -> RunRow:
    """`find`, but `latest` is the newest run of `rollouts optimize`. Raises ConfigError when there is none."""
    if name != "latest":
        return find(store, name)
    newest = next((run for run in _all_runs(store) if run.method in ALGORITHMS), None)
    if newest is None:
        raise ConfigError("no run searched for a prompt yet; start one with rollouts optimize")
    return newest


def check_search(run: RunRow) -> None:
    """Raises ConfigError for a run that is none of `rollouts optimize`."""
    if run.method not in ALGORITHMS:
        raise ConfigError(f"run {run.id} did not search ({run.method}); name a run of rollouts optimize")


def _all_runs(store: Store, status: str | None = None) -> Iterator[RunRow]:
    """All runs, the newest first, read in pages."""
    before = None
    while page := store.runs(limit=_PAGE, before=before, status=status):
        yield from page
        before = page[-1].id


def _seen(store: Store, run: RunRow) -> RunRow:
    """The run as it is: one that nobody works on any more, after a kill or a crash, is `unfinished`."""
    if run.status != RUNNING:
        return run
    try:
        store.lock_run(run.id)
    except StoreError:
        return run
    store.unlock_run(run.id)
    return replace(run, status=UNFINISHED)


def list_runs(place: str | None, *, limit: int, status: str | None, as_json: bool) -> int:
    """The newest runs, of that status alone where one is named."""
    if status is not None and status not in STATUSES:
        raise ConfigError(f"--status {status}: there are {', '.join(STATUSES[:-1])} and {STATUSES[-1]}")
    with stored(place) as store:
        found = (_seen(store, run) for run in _all_runs(store, RUNNING if status == UNFINISHED else status))
        runs = list(islice((run for run in found if status in (None, run.status)), limit))
    if as_json:
        failures.print_json(words.plain({"runs": [_run_json(run) for run in runs]}))
        return 0
    table = Table()
    for column in ("run", "name", "method", "status", "best", "verdict", "spend", "calls", "age"):
        table.add_column(column, overflow="fold")
    for run in runs:
        spend = _spend(run)
        table.add_row(
            run.id,
            run.name,
            run.method,
            run.status,
            words.score(run.summary.get("best_score")),
            _decision(run) or "–",
            words.usd(spend.usd),
            words.count(spend.calls),
            words.age(run.created_at),
        )
    words.make_console().print(table if runs else "no runs yet" if status is None else f"no run is {status}")
    return 0


def show(place: str | None, run_id: str, *, as_json: bool) -> int:
    """One run: settings, trials, verdict, spend."""
    with stored(place) as store:
        run = _seen(store, find(store, run_id))
        history, children = numbered(store, run.id, "trial"), numbered(store, run.id, "child")
    if as_json:
        lineage = {"children": children} if children else {}
        failures.print_json(words.plain({**_run_json(run), "config": run.config, "history": history, **lineage}))
        return 0
    console = words.make_console()
    console.print(f"{run.id} ({run.name or run.method}): {run.status}, {words.age(run.created_at)} old")
    for key, value in _settings(run).items():
        console.print(f"  {key}: {words.short(value, 160)}", soft_wrap=True)
    if history:
        console.print(trials_table(history))
    if children:
        console.print(lineage_table(children))
    summary = run.summary
    if summary.get("error"):
        console.print(f"Error: {summary['error']}", style="red", soft_wrap=True)
    if summary.get("verdict"):
        verdict = summary["verdict"]
        console.print(f"Verdict: {verdict['decision']} – {verdict['reason']}", soft_wrap=True)
    if "score" in summary:
        score = Interval.from_json(summary["score"])
        confidence = 100 * float(summary.get("confidence", 0.95))
        interval = f"{confidence:g} %: {words.score(score.low)} to {words.score(score.high)}"
        console.print(f"Score: {words.score(score.mean)} ({interval}) over {score.n} rows")
    for note in summary.get("notes", ()):
        console.print(f"Note: {note}.", style="yellow", soft_wrap=True)
    if summary.get("stop_reason"):
        console.print(f"Ended because: {summary['stop_reason']}", soft_wrap=True)
    phases = {name: Spend(**part) for name, part in summary.get("spend_by_phase", {}).items()}
    console.print(reports.spend_table(_spend(run), phases, Budget(), run.elapsed_s))
    return 0


def show_rollouts(
    place: str | None, run_id: str, *, failed: bool, program: str | None, limit: int, as_json: bool
) -> int:
    """The rollouts of a run, in the order of recording. Raises ConfigError for a program that it has none of."""
    with stored(place) as store:
        run = find(store, run_id)
        rows = rollouts_json(store, run.id, program=program, failed=True if failed else None)
        chosen = list(islice(rows, limit))
        if program is not None and not chosen and not any(rollouts_json(store, run.id, program=program)):
            raise ConfigError(f"run {run.id} has no rollout of a program {program!r}; --rollouts alone shows them all")
    if as_json:
        failures.print_json(words.plain({"run_id": run.id, "rollouts": chosen}))
        return 0
    table = Table()
    for column in ("sample", "program", "score", "expected", "output or failure", "tokens", "latency"):
        table.add_column(column)
    for row in chosen:
        table.add_row(
            row["sample_id"],
            row["program"][:10],
            words.score(row["score"]),
            words.short(words.told(row["ground_truth"]), 40),
            words.short(words.answer(row["output"], row["failure"]), 80),
            str(row["prompt_tokens"] + row["completion_tokens"]),
            words.seconds(row["latency_s"]),
        )
    console = words.make_console()
    console.print(table)
    _cut(console, chosen, limit)
    return 0


def _cut(console: Console, shown: Sequence[object], limit: int) -> None:
    if len(shown) == limit:
        console.print(f"the first {limit}; more with --limit")


def show_events(place: str | None, run_id: str, *, limit: int, as_json: bool) -> int:
    """What happened in a run, in order."""
    with stored(place) as store:
        run = find(store, run_id)
        events = store.events(run.id, limit=limit)
    if as_json:
        failures.print_json(words.plain({"run_id": run.id, "events": [asdict(event) for event in events]}))
        return 0
    console = words.make_console()
    for event in events:
        seconds = event.created_at - run.created_at
        console.print(f"{event.seq:5d} {seconds:8.1f} s  {event.kind:12s} {json.dumps(event.data)}", soft_wrap=True)
    _cut(console, events, limit)
    return 0


def show_candidates(place: str | None, run_id: str, *, limit: int, as_json: bool) -> int:
    """What a run has tried, the best mean first."""
    with stored(place) as store:
        run = find_search(store, run_id)
        found = candidates_of(store, run)
    shown, marks = found[:limit], {run.summary.get(f"{which}_program"): which for which in ("start", "best")}
    if as_json:
        candidates = [
            {
                "program": one.program,
                "score": one.score,
                "n": one.n,
                "failed": one.failed,
                "is": marks.get(one.program, ""),
                "modules": {name: template.to_json() for name, template in one.modules.items()},
            }
            for one in shown
        ]
        failures.print_json(words.plain({"run_id": run.id, "total": len(found), "candidates": candidates}))
        return 0
    table = Table()
    for column in ("candidate", "score", "rows", "failed", "demos", "instruction"):
        table.add_column(column, justify="left" if column in ("candidate", "instruction") else "right")
    for one in shown:
        templates = one.modules.values()
        table.add_row(
            " ".join(filter(None, (one.program[:10], marks.get(one.program)))),
            words.score(one.score),
            str(one.n),
            str(one.failed),
            ", ".join(str(len(template.few_shot_examples)) for template in templates),
            words.short(" | ".join(template.system for template in templates), 100),
        )
    console = words.make_console()
    console.print(table)
    console.print(f"{len(shown)} of {len(found)}; a whole prompt: rollouts runs export {run.id} --which CANDIDATE")
    return 0


def diff(place: str | None, first: str, second: str | None, *, as_json: bool) -> int:
    """A run's start against its best; or the bests and the settings of two runs."""
    with stored(place) as store:
        one = find_search(store, first)
        other = None if second is None else find_search(store, second)
        if other is None:
            check_search(one)
        before = stored_modules(store, one, "start" if other is None else "best")
        after = stored_modules(store, other or one)
    if set(before) != set(after):
        raise ConfigError(f"the runs have programs of other modules: {', '.join(before)}; and {', '.join(after)}")
    changed: Mapping[str, Any] = {} if other is None else config_differences(one, other)
    if as_json:
        found = {name: prompt_diff(before[name], template) for name, template in after.items()}
        settings = {key: {"before": old, "after": new} for key, (old, new) in changed.items()}
        prompts = [asdict(entry) for entry in found.values()]
        shown = {"prompt": prompts[0]} if len(prompts) == 1 else {"modules": dict(zip(found, prompts, strict=True))}
        same = all(entry.same for entry in found.values())
        failures.print_json(words.plain({**shown, "same": same, "config": settings}))
        return 0
    console = words.make_console()
    reports.show_program_diff(console, before, after)
    if other is not None:
        table = Table(title="Settings", title_justify="left")
        for column in ("setting", one.id, other.id):
            table.add_column(column, overflow="fold")
        for key, (old, new) in changed.items():
            table.add_row(key, words.short(old, 60), words.short(new, 60))
        console.print(table if changed else "The settings are the same.")
    return 0


def export(place: str | None, run_id: str, *, form: str, which: str, out: Path | None) -> int:
    """A prompt of the run, or all its rollouts as JSON lines, to stdout or to a file."""
    known_format(form, (*FORMATS, ROLLOUTS))
    with stored(place) as store:
        run = find_search(store, run_id)
        if form == ROLLOUTS:
            _write((json.dumps(row, ensure_ascii=False) + "\n" for row in rollouts_json(store, run.id)), out)
        else:
            _write(iter([export_prompt(stored_modules(store, run, which), form)]), out)
    return 0


def _write(lines: Iterator[str], out: Path | None) -> None:
    if out is None:
        for line in lines:
            print(line, end="")  # noqa: T201
        return
    try:
        with out.open("w", encoding="utf-8") as file:
            file.writelines(lines)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be written: {error.strerror or error}; name another file with --out"
        ) from None


def _run_json(run: RunRow) -> dict[str, Any]:
    summary = dict(run.summary)
    return {
        "run_id": run.id,
        "name": run.name,
        "method": run.method,
        "status": run.status,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "elapsed_s": run.elapsed_s,
        "best_score": summary.get("best_score"),
        "verdict": _decision(run),
        "spend": reports.spend_json(_spend(run)),
        "summary": summary,
    }


def _decision(run: RunRow) -> str | None:
    verdict = run.summary.get("verdict")
    return verdict["decision"] if isinstance(verdict, dict) else None


def _spend(run: RunRow) -> Spend:
    return Spend.from_json(run.authorised)


def _settings(run: RunRow) -> dict[str, Any]:
    job = run.config.get("prompt_learning", {})
    policy, data = job.get("policy", {}), job.get("dataset", {})
    search = job.get(run.method, {}) if run.method in ALGORITHMS else {}
    caps = job.get("termination_config", {})
    named = {
        "model": "/".join(part for part in (policy.get("provider"), policy.get("model")) if part),
        "data": data.get("path") or data.get("name") or data.get("train_path"),
        "metric": job.get("score", {}).get("metric"),
        "program": job.get("program", {}).get("path"),
        "tools": job.get("environment", {}).get("name"),
        "method": run.method,
        "trials": search.get("num_iterations", search.get("num_trials")),
        "generations": search.get("generations"),
        "scheduler": search.get("scheduler"),
        "caps": _caps_text(caps),
        "caps of modules": "; ".join(f"{name}: {_caps_text(own)}" for name, own in caps.get("modules", {}).items()),
        "seed": job.get("seed"),
    }
    return {key: value for key, value in named.items() if value not in (None, "")}


def _caps_text(caps: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in caps.items() if key != "modules")
