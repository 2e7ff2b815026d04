"""DSPy's MIPROv2 on the comparison's tasks. Importing this needs dspy; `search` is meant for a process of its own.

Settings: "equal" has the cap and the demonstrations of everyone, "default" is auto="light" as documented. "plain" and
"plain-default" are the same two with `PlainAdapter`, which asks the task model in the words of this project's templates
instead of DSPy's field markers, so that searches are compared and not formats.

Two things are done in its favour: errors never stop it (its limit is 10), and it gets as many trials as the calls that
are really left pay for, when its demonstrations are bootstrapped and with the answers that its cache saves.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its price list would be fetched from the network

import dspy
from dspy.teleprompt import MIPROv2

from benchmarks.mipro_comparison import dspy_budget
from benchmarks.mipro_comparison.outcome import Found, Row, score
from benchmarks.mipro_comparison.tasks import Data, Task
from rollouts.dtypes import FewShotExample, PromptTemplate
from rollouts.dtypes.prompts import fill, render

NEVER = 10**6
MOST_TRIALS = 2
_FORMAT_TOKENS = 48
_JSON_FORM = "Respond with a JSON object"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """`auto`: MIPROv2's own size of a run, or None for the cap of everyone. `plain`: our text form for the task."""

    auto: str | None
    plain: bool


SETTINGS = {
    "equal": Setting(auto=None, plain=False),
    "default": Setting(auto="light", plain=False),
    "plain": Setting(auto=None, plain=True),
    "plain-default": Setting(auto="light", plain=True),
}


class PlainAdapter(dspy.ChatAdapter):
    """The task's program in the text form of its templates: the instruction as system message, `task.user` filled as
    user message, demonstrations as turns, the whole reply as the answer. Other signatures as DSPy does it."""

    def __init__(self, task: Task) -> None:
        super().__init__(use_json_adapter_fallback=False)
        self._task = task

    def _mine(self, signature: Any) -> bool:
        return list(signature.fields) == [self._task.input, self._task.answer]

    def format(
        self, signature: Any, demos: Sequence[Mapping[str, Any]], inputs: dict[str, Any]
    ) -> list[dict[str, Any]]:
        if not self._mine(signature):
            return list(super().format(signature, demos, inputs))
        examples = [FewShotExample(fill(self._task.user, demo), str(demo[self._task.answer])) for demo in demos]
        template = PromptTemplate(signature.instructions, self._task.user, tuple(examples))
        return [{"role": message.role, "content": message.content} for message in render(template, inputs)]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        if not self._mine(signature):
            return dict(super().parse(signature, completion))
        return {self._task.answer: completion.strip()}


class CappedMIPROv2(MIPROv2):
    """MIPROv2 with as many trials as the rest of `cap` calls of its task model pays for; one at least, and at most
    twice as many as were planned without its cache, and `most`.

    `trials`: how many there were.
    """

    def __init__(self, *, cap: int, most: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._cap, self._most = cap, most
        self.trials = self.calls_before_trials = 0

    def _optimize_prompt_parameters(self, program: Any, instructions: Any, demos: Any, *rest: Any) -> Any:
        evaluate, valset, planned, *others = rest
        optimize = super()._optimize_prompt_parameters
        self.calls_before_trials = len(sent(self.task_model))
        # Its cache answers repeated trials, and how many there are is not known before. So a search that leaves calls
        # is made anew with more trials: from the same seed it goes the same way, from the cache, and then further.
        state, best = self.rng.getstate(), None
        wanted = self._affordable(len(valset)) or 1
        while best is None or self.trials < wanted <= MOST_TRIALS * planned:
            self.rng.setstate(state)
            try:
                best = optimize(program, instructions, demos, evaluate, valset, wanted, *others)
            except ValueError:  # so it ends when each combination that it tried has been evaluated in full
                if best is None:
                    raise
                break
            self.trials = wanted
            wanted = self._affordable(len(valset))
        return best

    def _affordable(self, val: int) -> int:
        """Trials in all, and as many as end with a scheduled full evaluation where that is more than there are now."""
        left = self._cap - len(sent(self.task_model))
        trials = min(self._most, dspy_budget.most_trials(left, val, done=self.trials))
        scheduled = trials - trials % dspy_budget.FULL_EVERY
        return scheduled if scheduled > self.trials else trials


def sent(lm: dspy.LM) -> list[Any]:
    """The answered requests of a model that its cache did not answer."""
    return [entry for entry in lm.history if entry["usage"]]


def search(
    base_url: str, task: Task, data: Data, *, cap: int, seed: int, settings: str, slots: int, trials: int | None = None
) -> Found:
    """MIPROv2's best program after about `cap` task calls, and `trials`, at most.

    A reply that cannot be parsed is asked for again as JSON, as DSPy does it: those calls come on top. Raises
    ValueError for unknown settings, and when the cap does not fit one trial.
    """
    if settings not in SETTINGS:
        raise ValueError(f"there are no settings {settings!r} of MIPROv2; there are {', '.join(SETTINGS)}")
    setting = SETTINGS[settings]
    adapter = PlainAdapter(task) if setting.plain else dspy.ChatAdapter()
    lm = _task_model(base_url, task, setting, cache=True)
    program = dspy.Predict(dspy.Signature(f"{task.input} -> {task.answer}", task.instruction))
    shared = {
        "metric": _metric(task),
        "prompt_model": dspy.LM("openai/proposer", api_base=base_url, api_key="none"),
        "task_model": lm,
        "num_threads": slots,
        "max_errors": NEVER,
        "seed": seed,
    }
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, dspy.context(lm=lm, adapter=adapter):
        dspy.configure_cache(disk_cache_dir=folder)
        if setting.auto is None:
            best, notes = _capped(program, task, data, cap, trials or dspy_budget.NO_LIMIT, shared)
        else:
            best, notes = _automatic(program, task, data, setting.auto, shared)
    predictor = best.predictors()[0]
    notes |= {
        "adapter": type(adapter).__name__,
        "json_calls": sum(_asks_json(entry) for entry in sent(lm)),
        "val_score": best.score,
        "demos": len(predictor.demos),
        "bootstrapped_demos": sum("augmented" in demo for demo in predictor.demos),
    }

    def prompt(row: Row) -> list[dict[str, Any]]:
        return list(adapter.format(predictor.signature, predictor.demos, {task.input: row[task.input]}))

    def answers(rows: Sequence[Row], test_url: str) -> list[str]:
        tester = _tester(task, _examples(task, rows), slots)
        with dspy.context(lm=_task_model(test_url, task, setting, cache=False), adapter=adapter):
            results = tester(best).results
        return [str(prediction.get(task.answer) or "") for _, prediction, _ in results]

    return Found(answers=answers, prompt=prompt, mode="few-shot + instruction", notes=notes)


def _capped(
    program: Any, task: Task, data: Data, cap: int, most: int, shared: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The best program within the cap and the demonstrations of everyone."""
    train, val = _examples(task, data.train), _examples(task, data.val)
    # The search begins with this evaluation, and has it from the cache then; made first, it says what is left.
    _tester(task, val, shared["num_threads"])(program)
    plan = dspy_budget.plan(cap - len(sent(shared["task_model"])), train=len(train), val=len(val), most=most)
    optimizer = CappedMIPROv2(
        cap=cap,
        most=most,
        auto=None,
        num_candidates=plan.candidates,
        max_bootstrapped_demos=dspy_budget.BOOTSTRAPPED,
        max_labeled_demos=task.demos,
        **shared,
    )
    best = optimizer.compile(
        program,
        trainset=train,
        valset=val,
        num_trials=plan.trials,
        minibatch=len(val) > dspy_budget.NO_MINIBATCH,
        minibatch_size=dspy_budget.MINIBATCH,
        minibatch_full_eval_steps=dspy_budget.FULL_EVERY,
    )
    found = {"candidates": plan.candidates, "trials": optimizer.trials}
    return best, found | {"calls_before_trials": optimizer.calls_before_trials}


def _automatic(
    program: Any, task: Task, data: Data, auto: str, shared: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """The best program of a run of the size `auto`, all else as it comes."""
    optimizer = MIPROv2(auto=auto, **shared)
    best = optimizer.compile(program, trainset=_examples(task, data.train), valset=_examples(task, data.val))
    return best, {"auto": auto}


def _task_model(base_url: str, task: Task, setting: Setting, *, cache: bool) -> dspy.LM:
    tokens = task.max_tokens if setting.plain else task.max_tokens + _FORMAT_TOKENS
    return dspy.LM("openai/task", api_base=base_url, api_key="none", temperature=0.0, max_tokens=tokens, cache=cache)


def _examples(task: Task, rows: Sequence[Row]) -> list[dspy.Example]:
    return [
        dspy.Example({task.input: row[task.input], task.answer: row["label"]}).with_inputs(task.input) for row in rows
    ]


def _tester(task: Task, rows: list[dspy.Example], slots: int) -> dspy.Evaluate:
    return dspy.Evaluate(devset=rows, metric=_metric(task), num_threads=slots, max_errors=NEVER)


def _metric(task: Task) -> Any:
    def right(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(score(str(prediction.get(task.answer) or ""), example[task.answer]))

    return right


def _asks_json(entry: Mapping[str, Any]) -> bool:
    return _JSON_FORM in str(entry["messages"][-1]["content"])
