"""The suite of benchmarks: what counts as worse, and what a run says and writes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from benchmarks.mipro_comparison.outcome import Key, Outcome
from benchmarks.mipro_comparison.runs import OURS, PEER
from benchmarks.suite import __main__ as suite
from benchmarks.suite import parts
from benchmarks.suite.parts import FULL, QUICK, Part
from benchmarks.suite.ratios import Ratio, better, medians, regressions, vanished, worse_by
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.floats(1e-3, 1e3)
RATE = "rate, ours / theirs"


def ratio(
    value: float, higher: bool = True, name: str = RATE, aim: float | None = None, part: str = "made.up"
) -> Ratio:
    return Ratio(name=name, value=value, higher_is_better=higher, aim=aim, part=part)


@pytest.mark.parametrize("higher", [True, False])
@given(before=VALUES, now=VALUES)
def test_worse_means_the_same_in_both_directions(higher: bool, before: float, now: float) -> None:
    worse = worse_by(ratio(before, higher), ratio(now, higher))
    assert (worse > 0) == ((now < before) == higher and now != before)
    assert worse == pytest.approx(-worse_by(ratio(before, not higher), ratio(now, not higher)))


@pytest.mark.parametrize(("value", "higher"), [(0.79, True), (1.21, False), (math.nan, True), (math.inf, False)])
def test_more_than_a_fifth_worse_is_a_regression(value: float, higher: bool) -> None:
    before = {RATE: ratio(1.0, higher)}
    assert regressions(before, [ratio(value, higher)])
    assert not regressions(before, [ratio(0.81 if higher else 1.19, higher)])
    assert not regressions({}, [ratio(value, higher)]), "nothing is known of it"


@given(st.lists(VALUES, min_size=1, max_size=7), st.booleans())
def test_the_median_of_rounds_counts(values: list[float], higher: bool) -> None:
    (found,) = medians([[ratio(value, higher)] for value in values])
    below, above = sum(value <= found.value for value in values), sum(value >= found.value for value in values)
    assert min(below, above) * 2 >= len(values)
    assert found.higher_is_better == higher


@given(VALUES, VALUES, st.booleans())
def test_the_better_of_two_is_never_worse(first: float, second: float, higher: bool) -> None:
    best = better(ratio(first, higher), ratio(second, higher))
    assert max(worse_by(ratio(value, higher), best) for value in (first, second)) <= 0


@given(VALUES, st.booleans(), st.none() | VALUES)
def test_ratios_survive_json(value: float, higher: bool, aim: float | None) -> None:
    made = ratio(value, higher, aim=aim)
    assert Ratio.from_json(made.name, json.loads(json.dumps(made.to_json()))) == made


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.sampled_from("abc")))
def test_what_is_gone_was_there_and_was_looked_for(before: set[int], now: set[int], ended: set[str]) -> None:
    then = {str(number): ratio(1.0, name=str(number), part="abc"[number % 3]) for number in before}
    gone = {found.name for found in vanished(then, [ratio(1.0, name=str(number)) for number in now], ended)}
    assert gone == {str(number) for number in before - now if "abc"[number % 3] in ended}


class Bench:
    """The command with one part that gives the values in turn, and a folder of its own. Several values at once are
    those of several ratios by name; a text breaks the part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder, self.runs = folder, 0
        self._patch = monkeypatch

    def __call__(
        self,
        values: Sequence[float | str | Mapping[str, float]],
        *arguments: str,
        rounds: int = 1,
        needs: str = "json",
    ) -> int:
        coming = iter(values)

        def run(part: Part) -> list[Ratio]:
            self.runs += 1
            value = next(coming)
            if isinstance(value, str):
                raise suite.PartFailed(value)
            named = value if isinstance(value, Mapping) else {RATE: value}
            return [ratio(value, name=name) for name, value in named.items()]

        part = Part(name="made.up", command=(), read=lambda path: [], needs=(needs,), rounds=rounds)
        self._patch.setattr(suite, "run", run)
        self._patch.setattr(suite, "QUICK", [part])
        return suite.main(["--quick", "--results", str(self.folder), *arguments])

    def written(self, name: str) -> dict[str, object]:
        data: dict[str, object] = json.loads((self.folder / f"{name}.json").read_text())
        return data


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    made = Bench(monkeypatch, tmp_path)
    assert made([1.0], "--update") == 0
    made.runs = 0
    return made


def test_as_good_as_the_baseline_passes_at_once(bench: Bench) -> None:
    assert bench([0.9]) == 0
    assert bench.runs == 1
    assert bench.written("quick")["ratios"] == {RATE: {"part": "made.up", "ratio": 0.9, "higher_is_better": True}}


def test_a_regression_is_measured_again_and_then_fails_by_name(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench([0.5, 0.6]) == 1
    assert bench.runs == 2
    said = capsys.readouterr().out
    assert "WORSE by more than 20%: rate, ours / theirs: worse by 40%" in said


def test_noise_that_does_not_come_back_passes(bench: Bench) -> None:
    assert bench([0.5, 1.0]) == 0


def test_one_bad_round_of_three_is_no_regression(bench: Bench) -> None:
    assert bench([1.0, 0.1, 1.1], rounds=3) == 0
    assert bench.runs == 3


def test_an_update_judges_nothing_and_becomes_the_baseline(bench: Bench) -> None:
    assert bench([0.5], "--update") == 0
    assert bench([0.45]) == 0


def test_the_baseline_of_the_other_mode_is_kept(bench: Bench) -> None:
    path = bench.folder / "baseline.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "full": {"ratios": {}}}))
    bench([2.0], "--update")
    assert set(bench.written("baseline")) == {"quick", "full"}


def test_a_ratio_that_a_part_no_longer_has_fails_by_name(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([{RATE: 1.0, "another": 1.0}], "--update") == 0
    assert bench([1.0]) == 1
    assert "BROKEN: made.up no longer has the ratio: another" in capsys.readouterr().out
    assert bench([1.0], "--update") == 0
    assert bench([1.0]) == 0, "an update forgets it"


def test_a_ratio_without_a_baseline_is_no_pass_and_no_failure(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([{RATE: 1.0, "another": 1.0}]) == suite.UNKNOWN
    said = capsys.readouterr().out
    assert "NOT COMPARED: another" in said
    assert f"NOT COMPARED: {RATE}" not in said
    assert "run with --update" in said
    assert bench([{RATE: 0.1, "another": 1.0}] * 2) == suite.WORSE, "a regression counts before it"


def test_full_is_held_against_quick_only_where_the_settings_are_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def part(name: str, *arguments: str) -> Part:
        return Part(name=name, command=arguments, read=_nothing)

    monkeypatch.setattr(suite, "QUICK", [part("same"), part("longer", "10"), part("of quick")])
    monkeypatch.setattr(suite, "FULL", [part("same"), part("longer", "1000")])
    value = 1.0
    monkeypatch.setattr(suite, "run", lambda part: [ratio(value, name=f"rate of {part.name}", part=part.name)])
    place = ["--results", str(tmp_path)]
    assert suite.main(["--quick", "--update", *place]) == 0
    assert suite.main(["--full", *place]) == suite.UNKNOWN
    said = capsys.readouterr().out
    assert "NOT COMPARED: rate of longer" in said
    assert "no baseline for --full" in said
    assert "NOT COMPARED: rate of same" not in said
    value = 0.5
    assert suite.main(["--full", "--only", "same", *place]) == suite.WORSE
    assert suite.main(["--full", "--only", "longer", *place]) == suite.UNKNOWN
    assert suite.main(["--full", "--update", *place]) == 0
    assert suite.main(["--full", *place]) == 0, "its own baseline counts before that of quick"


def _nothing(path: Path) -> list[Ratio]:
    return []


def test_every_ratio_of_the_committed_baseline_belongs_to_a_part() -> None:
    """Otherwise nobody would notice that it is gone."""
    for mode, every in (("quick", QUICK), ("full", FULL)):
        known = suite.read_baseline(suite.RESULTS, mode)
        assert {found.part for found in known.values()} <= {part.name for part in every}
    assert suite.read_baseline(suite.RESULTS, "quick")


def test_a_broken_part_fails_and_says_how(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(["ModuleNotFoundError: no such thing"]) == 1
    said = capsys.readouterr().out
    assert "no such thing" in said
    assert "BROKEN: made.up" in said


def test_what_is_not_installed_is_left_out_and_said(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench([], needs="no_such_module_at_all") == 0
    assert "left out, needs no_such_module_at_all" in capsys.readouterr().out
    assert bench.written("quick")["left_out"] == {"made.up": "needs no_such_module_at_all"}


def test_a_real_part_is_run_and_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own, with the file it is told to write."""
    script = "import json, sys; json.dump({'ours': 3, 'sqlite3': 4}, open(sys.argv[1], 'w'))"
    (tmp_path / "made_up_part.py").write_text(script)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    read = next(part.read for part in QUICK if part.name == "store.bench_store")
    (found,) = suite.run(Part(name="store", command=("made_up_part", "{out}"), read=read))
    assert (found.value, found.part) == (0.75, "store")
    with pytest.raises(suite.PartFailed, match="No module named"):
        suite.run(Part(name="store", command=("no_such_part",), read=read))
    with pytest.raises(suite.PartFailed, match="cannot be read"):
        suite.run(Part(name="store", command=("made_up_part", str(tmp_path / "elsewhere")), read=read))
    with pytest.raises(suite.PartFailed, match="there is no ratio"):
        suite.run(Part(name="store", command=("made_up_part", "{out}"), read=_nothing))


@pytest.mark.parametrize("part", [*QUICK, *FULL], ids=lambda part: part.name)
def test_every_part_is_there_and_takes_its_arguments(part: Part) -> None:
    module = Path(suite.__file__).parents[2].joinpath(*part.command[0].split("."))
    path = module.with_suffix(".py") if module.with_suffix(".py").exists() else module / "__main__.py"
    text = path.read_text(encoding="utf-8")
    for word in part.command[1:]:
        assert not word.startswith("--") or f'"{word}"' in text, f"{path.name} has no {word}"


WRITTEN = {
    parts.overhead: {"overhead": [{"calls": 10, "ours_ms": 1, "ours_cpu_ms": 1, "dspy_ms": 4, "dspy_cpu_ms": 4}]},
    parts.throughput: {"ours": {"calls_per_s": 3}, "dspy": {"calls_per_s": 1}},
    parts.slots: {"runs": {"heavy tail": {"dspy": {"use": 0.3}, "racing": {"use": 0.5, "time_ratio": 0.25}}}},
    parts.memory: {"mb": {"ours": 1, "dspy": 4}},
    parts.store: {"ours": 3, "sqlite3": 1},
    parts.interceptor: {"one at a time, fastest, direct (ms)": 4, "one at a time, fastest, through (ms)": 1},
    parts.bookkeeping: {"bookkeeping": [{"calls": 10, "ours_us": 1, "gepa_us": 4}]},
    parts.gepa: {"results": [{"world": "rules", "calls": 10, "ours": 0.6, "gepa": 0.2}]},
    parts.selection: [
        {"budget": 10, "method": method, "regret": regret, "table": table}
        for method, regret in (("racing", 1), ("mipro-v2", 4))
        for table in "ab"
    ],
    parts.rmipro: {"records": [{"ratio": 0.25, "bottleneck": True}, {"ratio": 9, "bottleneck": False}]},
    parts.local: {"one": {"ratio_of_pairs": 3.0}, "no_cache": {"ratio_of_pairs": 9.0}},
}


@pytest.mark.parametrize("read", WRITTEN, ids=lambda read: read.__name__)
def test_ratios_are_read_with_the_peer_below_the_line(read: Callable[[Path], list[Ratio]], tmp_path: Path) -> None:
    """What is a time, a size or a regret is a quarter of the peer's here; what is a rate or a score three times it."""
    (tmp_path / "out").write_text(json.dumps(WRITTEN[read]))
    found = [entry for entry in read(tmp_path / "out") if not entry.name.startswith("slot use")]
    assert found
    for entry in found:
        assert entry.value in ((pytest.approx(3),) if entry.higher_is_better else (0.25,)), entry.name


def compared(ours: float | None, theirs: float | None, folder: Path) -> list[Ratio]:
    """What is read of a pair of runs with these scores; None is a run that failed."""
    for method, settings, score in ((OURS, "equal", ours), (PEER, "plain", theirs)):
        Outcome(
            key=Key(task="tickets", method=method, settings=settings, cap=300, seed=0),
            model="mock",
            best_score=score,
            train_size=1,
            val_size=1,
            test_size=1,
            error="the optimizer is gone" if score is None else None,
        ).save(folder)
    return parts.comparison(folder)


def test_a_comparison_is_our_accuracy_by_that_of_the_peer(tmp_path: Path) -> None:
    (found,) = compared(0.6, 0.3, tmp_path)
    assert found.value == pytest.approx(2)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [(None, 0.3, "failed runs: tickets_rollouts_mipro"), (0.6, None, "failed runs"), (0.6, 0.0, "nothing right")],
)
def test_a_comparison_without_a_ratio_says_why(
    ours: float | None, theirs: float | None, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=said):
        compared(ours, theirs, tmp_path)
