"""What a run is doing: a live screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rollouts.cli import words
from rollouts.prompt_optimization import Study
from rollouts.prompt_optimization.interrupts import GRACE_S
from rollouts.prompt_optimization.proposers.lost import Lost

_REFRESH_S = 0.15
_HEARTBEAT_S = 15.0
_PHASES = {
    "bootstrap": "baseline, demonstrations, instructions",
    "search": "search",
    "validate": "the leaders on validation rows",
    "test": "final check on test rows",
    "evaluate": "evaluation",
}


class Progress:
    """Reads a study; `attach` gives it one, `listen` is to be among the study's listeners."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.study: Study | None = None
        self.trial = self.trials = self.planned = 0
        self.unit = "trial"
        self.races_leaders = True
        self.note = ""
        self._told: set[str] = set()
        self._live: Live | None = None
        self._painter: asyncio.Task[None] | None = None

    def attach(self, study: Study) -> None:
        """The study has started."""
        self.study = study

    def listen(self, kind: str, data: Mapping[str, Any]) -> None:
        """Takes note of an event, and prints it where there is no live screen. A closed pipe must not end a run."""
        if kind == "plan":
            self.trials, self.planned = data.get("trials", 0), data["total"]
            self.unit = "generation" if data.get("children") else "trial"
            self.races_leaders = not data.get("raced") or data["finals"] > 0
        if (kind == "plan" and data.get("raced")) or (kind == "phase" and "scheduler" in data):
            self.unit, self.trials = "round", 0  # how many there will be is not known
        elif kind == "trial":
            self.trial = data["trial"]
        elif kind == "proposal_lost":
            self.note = f"{data['lost']} of {data['asked']} proposals failed: {data['reason']}"
        elif kind == "stopping":
            self.say(
                f"stopping: what is in flight may take {GRACE_S:g} s more, then the best so far is kept; again Ctrl-C "
                "to end at once"
            )
        if self._live is None:
            with suppress(OSError):
                self._line(kind, data)

    def say(self, note: str) -> None:
        """Shows a note, above the live screen where there is one."""
        self.note = note
        with suppress(OSError):
            self.console.print(note, style="yellow", soft_wrap=True)

    async def __aenter__(self) -> Progress:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._painter = asyncio.create_task(self._beat() if self._live is None else self._paint())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._painter is not None:
            self._painter.cancel()
        self.restore()

    def restore(self) -> None:
        """Gives the terminal back."""
        live, self._live = self._live, None
        if live is not None:
            live.stop()

    async def _paint(self) -> None:
        while self._live is not None:
            self._live.update(self.screen(), refresh=True)
            await asyncio.sleep(_REFRESH_S)

    async def _beat(self) -> None:
        """A line from time to time, so that a slow phase is not taken for a hang."""
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            if self.study is not None:
                with suppress(OSError):
                    self._print(f"phase {self.study.phase}: about {words.seconds(self.eta_s)} left")

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the pace so far; None before anything was done."""
        study = self.study
        if study is None or not self.planned:
            return None
        progress = study.evaluator.progress
        done = progress.done + progress.cached
        here = study.elapsed - study.ledger.elapsed_before
        return max(0, self.planned - done) * here / progress.done if progress.done else None

    def screen(self) -> Group:
        """The live screen."""
        study = self.study
        if study is None:
            return Group(Text("starting"))
        progress = study.evaluator.progress
        done = progress.done + progress.cached
        head = Text.assemble((study.run_id, "bold"), "  ", _PHASES.get(study.phase, study.phase))
        if self.trial or self.trials:
            head.append(f"  {self._place()}")
        head.append(f"  best {words.score(study.best_score)}", style="green")
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=max(1, self.planned), completed=min(done, self.planned), width=40),
            f"{done}/{self.planned} rollouts ({progress.cached} cached, {progress.failed} failed{retried(study)}), "
            f"{words.seconds(self.eta_s)} left",
        )
        return Group(head, bar, spend_line(study), *([Text(self.note, style="yellow")] if self.note else []))

    def _line(self, kind: str, data: Mapping[str, Any]) -> None:
        if kind in ("started", "resumed") and self.study is None:
            return
        if kind == "phase" and data["phase"] == "validate" and not self.races_leaders:
            return
        if kind == "phase":
            extra = ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in data.items() if name != "phase")
            phase = str(data["phase"])
            self._print(f"phase {phase}: {extra or _PHASES.get(phase, phase)}")
        elif kind == "trial":
            self._print(f"{self._place()} {trial_text(data)}")
        elif kind == "proposal_lost" and data["reason"] not in self._told:
            self._told.add(data["reason"])
            lost = Lost(data["reason"], data["detail"])
            self.console.print(f"  a proposal failed: {lost}", style="yellow", soft_wrap=True)
        elif kind == "child":
            self.console.print(f"  {child_text(data)}", soft_wrap=True)

    def _place(self) -> str:
        return f"{self.unit} {self.trial}" + (f"/{self.trials}" if self.trials else "")

    def _print(self, text: str) -> None:
        study = self.study
        if study is not None:
            progress = study.evaluator.progress
            text += f" | {spend_line(study)} | {progress.cached} cached, {progress.failed} failed{retried(study)}"
        self.console.print(text, soft_wrap=True)


def trial_text(data: Mapping[str, Any]) -> str:
    """Score and best of a trial, and what was tried in it."""
    text = f"score {words.score(data['score'])} best {words.score(data['best'])}"
    if "members" in data:
        return f"{text} candidates {data['members']} on the front {data['front']}"
    if "given" in data:
        return f"{text} trials {given_text(data['given'])}"
    if data.get("candidates", 1) > 1:
        return f"{text} over {data['candidates']} candidates"
    parts = data.get("modules") or {"": data}
    return " ".join([text, *(_made_of(name, part) for name, part in parts.items())])


def given_text(given: Mapping[str, int]) -> str:
    """How r-MIPRO divided a round: trials by module."""
    return ", ".join(f"{name} {count}" for name, count in given.items() if count) or "none"


def _made_of(module: str, part: Mapping[str, Any]) -> str:
    sources = [str(part[name]) for name in ("instruction_source", "user_template_source") if name in part]
    text = f"demos {part.get('demos', 0)}" + (f" ({', '.join(sources)})" if sources else "")
    return f"{module}: {text}" if module else text


def child_text(data: Mapping[str, Any]) -> str:
    """What became of a child of GEPA."""
    fate = f"accepted as {data['id']}" if data["accepted"] else "rejected"
    gap = "" if data.get("gap") is None else f" gap {data['gap']:+.3f}"
    reason = f": {data['reason']}" if data.get("reason") else ""
    return f"child {data['child']} {data['origin']} of {', '.join(data['parents'])} {fate}{gap}{reason}"


def retried(study: Study) -> str:
    """How many failed calls were sent again, and why: what a run waits for that seems to do nothing."""
    retries = study.context.retries
    return f", {retries.total()} retries: {', '.join(name for name, _ in retries.most_common(2))}" if retries else ""


def spend_line(study: Study) -> Text:
    """What was spent, each against its cap where it has one."""
    spent, budget = study.ledger.spent, study.ledger.budget

    def of(value: str, cap: float | None, shown: str) -> str:
        return value if cap is None else f"{value}/{shown}"

    micros = budget.max_micros
    parts = [
        of(f"{spent.rollouts:,}", budget.max_rollouts, f"{budget.max_rollouts or 0:,}") + " rollouts",
        of(f"{spent.calls:,}", budget.max_calls, f"{budget.max_calls or 0:,}") + " calls",
        of(f"{spent.tokens:,}", budget.max_tokens, f"{budget.max_tokens or 0:,}") + " tokens",
        of(words.usd(spent.usd), micros, words.usd((micros or 0) / 1e6)),
        of(words.seconds(study.elapsed), budget.max_seconds, words.seconds(budget.max_seconds)),
    ]
    return Text("  ".join(parts))
