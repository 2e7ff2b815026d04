"""What `rollouts train` prints of a job's events."""

from __future__ import annotations

from typing import Any

import pytest

from rollouts.cli.listing import Display, Listing, Outcome, curve
from rollouts.client import Event, Job

ALL = Display(show_curve=True, verbose_summary=True)
VERDICT = {
    "decision": "ship",
    "reason": "the winner is better by +0.100",
    "n": 20,
    "best": {"mean": 0.65},
    "baseline": {"mean": 0.55},
}
PART = {"rollouts": 100, "calls": 1200, "tokens": 34567, "micros": 2500}
SPEND = {"total": PART, "by_phase": {"search": PART}, "elapsed_s": 12.0}
MIPRO: tuple[tuple[str, dict[str, Any]], ...] = (
    ("job", {"status": "queued"}),
    ("job", {"status": "running"}),
    ("plan", {"trials": 10, "total": 100}),
    ("phase", {"phase": "bootstrap"}),
    ("demo_sets", {"sources": {"main": ["none", "balanced", "labelled"]}, "successes": 5}),
    ("phase", {"phase": "search", "instructions": 12, "demo_sets": 3}),
    ("trial", {"trial": 1, "score": 0.45, "best": 0.45}),
    ("proposals", {"round": 1, "added": 2}),
    ("trial", {"trial": 2, "score": None, "best": 0.52}),
    ("phase", {"phase": "validate"}),
    ("phase", {"phase": "test"}),
    ("verdict", VERDICT),
    ("job", {"status": "succeeded"}),
)
CHILD = {"origin": "rewrite", "parents": ["g0"], "reason": "a gap of -0.100"}
GEPA: tuple[tuple[str, dict[str, Any]], ...] = (
    ("plan", {"trials": 3, "total": 100}),
    ("phase", {"phase": "bootstrap"}),
    ("phase", {"phase": "search", "children": 2}),
    ("child", {**CHILD, "child": 1, "accepted": False, "id": None}),
    ("child", {**CHILD, "child": 2, "accepted": True, "id": "g1"}),
    ("trial", {"trial": 1, "score": 0.5, "best": 0.5}),
)


def job(status: str = "succeeded", **more: Any) -> Job:
    return Job.from_json({"id": "pl_0123456789abcdef", "status": status, **more})


def lines(listing: Listing, events: tuple[tuple[str, dict[str, Any]], ...]) -> list[str]:
    return [
        line
        for seq, (kind, data) in enumerate(events, 1)
        for line in listing.add(Event(seq=seq, kind=kind, data=data, created_at=0.0))
    ]


def test_mipro_is_told_as_in_the_walkthrough() -> None:
    listing = Listing("mipro", Display())
    assert list(listing.begin(job("queued")))[1:] == [
        "MIPRO Prompt Optimization",
        "=" * 40,
        "Job ID: pl_0123456789abcdef",
    ]
    assert lines(listing, MIPRO) == [
        "Status: queued",
        "Status: running",
        "",
        "Phase 1: Bootstrap",
        "  Generating instruction candidates...",
        "  Sampling demonstrations...",
        "  - Good answers of your prompt: 5",
        "  - Demonstration sets: 3",
        "  Total instructions: 12",
        "  ✓ Bootstrap complete",
        "",
        "Phase 2: Optimization",
        "  Iteration 1/10... score: 0.45",
        "  - 2 more instructions generated",
        "  Iteration 2/10... score: –",
        "",
        "Phase 3: Validation of the leaders",
        "",
        "Phase 4: Test",
    ]
    summary = {"verdict": VERDICT, "best_score": 1.0, "baseline_score": 0.5}
    assert list(listing.end(Outcome(job=job(), summary=summary, spend=SPEND)))[2:] == [
        "Optimization Complete",
        "=" * 40,
        "Best Score: 0.65",
        "Your Prompt: 0.55 (both on 20 test samples that the search never saw)",
        "Verdict: ship: the winner is better by +0.100",
        "Total Iterations: 2",
        "Total Evaluations: 100",
    ]


def test_gepa_has_generations_and_candidates() -> None:
    listing = Listing("gepa", Display())
    told = lines(listing, GEPA)
    assert told[-3:] == [
        "  - Candidate 1 (rewrite of g0) rejected: a gap of -0.100",
        "  - Candidate 2 (rewrite of g0) accepted as g1",
        "  Generation 1/3... score: 0.50",
    ]
    assert "Phase 2: Evolution" in told
    assert not any("Bootstrap" in line for line in told)
    assert "Total Generations: 1" in listing.end(Outcome(job=job(), summary={}, spend=SPEND))


@pytest.mark.parametrize(("algorithm", "events"), [("mipro", MIPRO), ("gepa", GEPA)])
def test_what_a_restart_repeats_is_told_once(algorithm: str, events: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    listing = Listing(algorithm, Display())
    lines(listing, events)
    again = [event for event in events if event[0] != "job"]
    assert lines(listing, (("resumed", {}), *again)) == ["  (the job goes on where it was)"]


def test_the_display_says_what_is_shown() -> None:
    quiet = Listing("mipro", Display(show_trial_results=False))
    assert not [line for line in lines(quiet, MIPRO) if "Iteration" in line or "generated" in line]
    summary = {"verdict": None, "best_score": 0.7, "baseline_score": 0.5, "notes": ["a note"], "stop_reason": "why"}
    short = list(quiet.end(Outcome(job=job(), summary=summary, spend=SPEND)))
    assert "Your Prompt: 0.50 (both on validation samples)" in short
    assert not [line for line in short if line.startswith(("Curve", "Spend", "Verdict"))]
    full = Listing("mipro", ALL)
    lines(full, MIPRO)
    told = list(full.end(Outcome(job=job(), summary=summary, spend=SPEND)))
    assert told[: len(short)] == short
    assert told[len(short) :] == [
        "Curve: ▁█  (the leader's estimated score, from 0.45 to 0.52)",
        "Spend: 100 evaluations, 1,200 calls, 34,567 tokens, $0.0025, 12 s",
        "  search: 100 evaluations, 1,200 calls, 34,567 tokens, $0.0025",
        "Stopped: why",
        "Note: a note",
    ]


def test_a_job_that_failed_says_why() -> None:
    listing = Listing("mipro", ALL)
    told = list(listing.end(Outcome(job=job("failed", error="no model"), summary={}, spend=SPEND)))
    assert told[2] == "Optimization Failed"
    assert "Error: no model" in told
    assert not [line for line in told if line.startswith(("Best", "Curve"))]


def test_a_curve_shows_low_and_high() -> None:
    assert curve([0.0, 0.5, 1.0]) == "▁▅█"
    assert curve([0.3, 0.3]) == "▁▁"
