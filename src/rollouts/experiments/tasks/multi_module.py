"""Word problems in three steps: `text_extractor` finds the numbers, `code_generator` writes Python that runs in a
sandbox, `reasoner` states the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from rollouts.dtypes import Agent, Program, PromptTemplate, Sample, Score, ScoreFn, Trajectory
from rollouts.environments.arithmetic import evaluate, show
from rollouts.environments.sandbox import run_python
from rollouts.evaluation.metrics import normalise_answer
from rollouts.experiments.tasks.bundle import Judged, Row, TaskBundle, rows_of, samples_of, score_of, with_examples
from rollouts.experiments.tasks.simulated import SimulatedModule, SimulatedProgram
from rollouts.testing import SimulatedTask

_NAME = "multi_module"
_NUMBER = re.compile(r"\d+")
_VARIABLES = "abc"
_LONGEST_RESULT = 100
_KEPT = 4096
_printed: dict[str, str] = {}


def bundle() -> TaskBundle:
    """The task."""
    rows = rows_of(_NAME)
    return TaskBundle(
        name=_NAME,
        program=Program(modules=start_prompts(), run=run),
        samples=samples_of(rows, "problem"),
        score_fn=score_by({row["problem"]: row for row in rows}),
        description=(
            "Solves a word problem: finds the numbers that count, writes a line of Python that is run, and states the "
            "result with what was counted."
        ),
        simulate=partial(_simulated, rows),
    )


async def run(sample: Sample, agents: Mapping[str, Agent]) -> str:
    """text_extractor -> code_generator -> the sandbox -> reasoner, which is shown the output or the error."""
    problem = sample.inputs["problem"]
    numbers = await agents["text_extractor"]({"problem": problem})
    code = await agents["code_generator"]({"problem": problem, "numbers": numbers.output})
    result = await _result(code.output)
    return (await agents["reasoner"]({"problem": problem, "result": result})).output


async def _result(code: str) -> str:
    """What the code prints, or the error. A search runs the same lines many times: what went well is kept."""
    if code not in _printed:
        ran = await run_python(code)
        if ran.error:
            return ran.error[:_LONGEST_RESULT]
        if len(_printed) >= _KEPT:
            _printed.clear()
        _printed[code] = ran.output.strip()[:_LONGEST_RESULT]
    return _printed[code]


def score_by(rows: Mapping[str, Row]) -> ScoreFn:
    """1 when the answer is right; `rows` are the right steps by problem.

    Every module is judged by what it was given: code that is right for wrong numbers is right. What cannot be judged
    so, because there are too few numbers or no result, is not.
    """

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        row = rows[sample.inputs["problem"]]
        unit = row["answer"].split()[1]
        runs = {trace.module: trace for trace in trajectory.traces}
        judged = [Judged("text_extractor", runs["text_extractor"].output, row["numbers"])]
        result = str(runs["reasoner"].values["result"])
        given = _NUMBER.findall(str(runs["code_generator"].values["numbers"]))
        if len(given) == len(_NUMBER.findall(row["numbers"])) and (value := _value(row["formula"], given)):
            judged.append(Judged("code_generator", result, value))
        if _NUMBER.fullmatch(result):
            judged.append(Judged("reasoner", runs["reasoner"].output, f"{result} {unit}"))
        return score_of(float(normalise_answer(trajectory.output) == row["answer"]), judged)

    return score


def _filled(formula: str, numbers: list[str]) -> str:
    """The formula with numbers for its variables; those that are missing are 0."""
    values = dict(zip(_VARIABLES, numbers, strict=False))
    return re.sub(rf"[{_VARIABLES}]", lambda name: values.get(name[0], "0"), formula)


def _value(formula: str, numbers: list[str]) -> str:
    """What the formula comes to; empty where there is nothing that it does."""
    try:
        return show(evaluate(_filled(formula, numbers)))
    except ValueError:
        return ""


_MULE = "A mule carries 2 sacks of 9 kilos. How many kilos?"
_HATS = "Bea has 6 hats, Leo has 5. How many hats?"
_BUNS = "Of 12 buns 3 are sold, then 4. How many buns stay?"


def start_prompts() -> dict[str, PromptTemplate]:
    """Module -> its prompt."""
    extractor = PromptTemplate("Copy the numbers that are needed.", "Problem: {problem}\nNumbers:")
    coder = PromptTemplate("Write Python.", "Problem: {problem}\nNumbers: {numbers}\nPython:")
    reasoner = PromptTemplate("State the answer.", "Problem: {problem}\nResult: {result}\nAnswer:")
    return {
        "text_extractor": with_examples(
            extractor,
            ({"problem": _MULE}, "2, 9"),
            ({"problem": _BUNS}, "12, 3, 4"),
            ({"problem": _HATS}, "6, 5"),
        ),
        # It has seen the least: two kinds of problems out of many.
        "code_generator": with_examples(
            coder,
            ({"problem": _MULE, "numbers": "2, 9"}, "print(2 * 9)"),
            ({"problem": _HATS, "numbers": "6, 5"}, "print(6 + 5)"),
        ),
        "reasoner": with_examples(
            reasoner,
            ({"problem": _MULE, "result": "18"}, "18 kilos"),
            ({"problem": _BUNS, "result": "5"}, "5 buns"),
            ({"problem": _HATS, "result": "11"}, "11 hats"),
        ),
    }


def _simulated(rows: list[Row], seed: int) -> SimulatedProgram:
    numbers = {row["problem"]: row["numbers"] for row in rows}
    code = {row["problem"]: f"print({row['formula']})" for row in rows}
    units = {row["problem"]: row["answer"].split()[1] for row in rows}
    extractor = SimulatedTask(
        labels=tuple(sorted(set(numbers.values()))),
        answers=numbers,
        base=0.8,
        labels_named=0.0,
        demos=3.0,
        chatty=0.2,
        phrases={"numbers apart from commas": 0.5, "leave out what is not counted": 0.7},
    )
    coder = SimulatedTask(
        labels=tuple(sorted(set(code.values()))),
        answers=code,
        base=-2.2,
        labels_named=0.0,
        demos=2.5,
        chatty=0.2,
        phrase_rate=0.4,
        phrases={"one call of print": 1.0, "each means multiply": 1.2, "left means subtract": 1.2},
    )
    reasoner = SimulatedTask(
        labels=tuple(sorted(set(units.values()))),
        answers=units,
        base=1.4,
        labels_named=0.0,
        demos=3.0,
        chatty=0.2,
        phrases={"the number and then the thing counted": 0.6},
    )
    return SimulatedProgram(
        {
            "text_extractor": SimulatedModule(task=extractor),
            "code_generator": SimulatedModule(task=coder, to_label=_code_label, to_answer=_code),
            "reasoner": SimulatedModule(task=reasoner, to_label=_unit, to_answer=_answer),
        },
        seed=seed,
    )


def _code_label(code: str) -> str:
    names = iter(_VARIABLES)
    return _NUMBER.sub(lambda number: next(names, number[0]), code)


def _code(label: str, asked: str) -> str:
    formula = label.removeprefix("print(").removesuffix(")")
    return f"print({_filled(formula, _NUMBER.findall(_line(asked, 'Numbers')))})"


def _unit(answer: str) -> str:
    return answer.rpartition(" ")[2]


def _answer(label: str, asked: str) -> str:
    return f"{_line(asked, 'Result')} {label}"


def _line(asked: str, name: str) -> str:
    """What stands after `name` in the user message."""
    found = re.search(rf"{name}\W+([^\n<]*)", asked, re.IGNORECASE)
    return found[1].strip() if found else ""
