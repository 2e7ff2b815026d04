"""The commented job file that `rollouts init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rollouts.experiments.loading import DEFAULT_BUDGET


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a job file is made from.

    `data_path` is written as it is: relative to where the file will stand. `inputs` maps placeholder to column.
    `labels` are the labels where the answer is one of few. `user` None makes one line for each input. Of the caps, None
    means none; without any, the loader sets one. `metric` None means exact match, `rubric` asks for a judge.
    """

    data_path: str
    inputs: Mapping[str, str]
    ground_truth: str | None
    provider: str
    model: str
    base_url: str | None = None
    api_key_env: str | None = None
    columns: Sequence[str] = ()
    labels: Sequence[str] = ()
    system: str = ""
    user: str | None = None
    metric: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rubric: str | None = None
    budget: int | None = 1000
    max_cost_usd: float | None = None
    max_completion_tokens: int = 256
    seed: int = 0


def template_toml(answers: Answers) -> str:
    """A commented job file that loads back to the same settings."""
    sections = (_job, _dataset, _prompt, _score, _models, _search)
    return "\n".join(line for section in sections for line in (*section(answers), ""))


def _job(answers: Answers) -> list[str]:
    return [
        "# An optimization job. Every key is described in the configuration reference.",
        "# Paths are relative to this file. Keys belong in the environment or in .env, never in here.",
        "[prompt_learning]",
        'algorithm = "mipro"  # or "gepa": a model reads what went wrong and rewrites the texts',
        f"seed = {answers.seed}",
    ]


def _dataset(answers: Answers) -> list[str]:
    lines = ["[prompt_learning.dataset]", f"path = {_toml(answers.data_path)}"]
    if answers.columns:
        lines.append(f"columns = {_toml(list(answers.columns))}  # the file has no header")
    lines.append(f"inputs = {_toml(dict(answers.inputs))}  # placeholder = column")
    if answers.ground_truth is not None:
        lines.append(f"ground_truth = {_toml(answers.ground_truth)}")
    if answers.labels:
        lines.append(f"labels = {_toml(list(answers.labels))}  # rows with another label are left out")
    return [
        *lines,
        "# train = 100  # rows, or a share such as 0.3; by default chosen by size, shuffled and stratified",
        "# val = 100",
        "# test = 200  # never seen by the search: the verdict is made on them",
    ]


def _prompt(answers: Answers) -> list[str]:
    user = answers.user or "\n".join(f"{name}: {{{name}}}" for name in answers.inputs)
    return [
        "[prompt_learning.initial_prompt]",
        f"system = {_toml(answers.system)}  # the instruction: the text that is optimized",
        f"user = {_toml(user)}  # how a row becomes the user message",
    ]


def _score(answers: Answers) -> list[str]:
    metric = answers.metric or ("exact_match" if answers.rubric is None else "judge")
    lines = [
        "[prompt_learning.score]",
        f'metric = {_toml(metric)}  # or "package.module:function" with (trajectory, sample) -> Score',
    ]
    if answers.options:
        lines.append(f"options = {_toml(dict(answers.options))}")
    if answers.rubric is not None:
        lines += ["", "[prompt_learning.score.judge]", f"rubric = {_toml(answers.rubric)}"]
    return lines


def _models(answers: Answers) -> list[str]:
    lines = [
        "[prompt_learning.policy]  # the model that runs the task",
        f"provider = {_toml(answers.provider)}",
        f"model = {_toml(answers.model)}",
    ]
    for name in ("base_url", "api_key_env"):
        if getattr(answers, name) is not None:
            lines.append(f"{name} = {_toml(getattr(answers, name))}")
    return [
        *lines,
        "temperature = 0.0",
        f"max_completion_tokens = {answers.max_completion_tokens}  # bounds the worst case of a call",
        "",
        "# [prompt_learning.proposer]  # the model that writes instructions; by default the task model",
        '# model = "openai/gpt-4.1"',
    ]


def _search(answers: Answers) -> list[str]:
    budget, money = answers.budget, answers.max_cost_usd
    return [
        "[prompt_learning.mipro]",
        "num_iterations = 20  # size of the search",
        "num_demos = 4  # most demonstrations in a prompt",
        "optimize_instructions = true",
        "optimize_demos = true",
        "",
        "[prompt_learning.termination_config]  # hard caps: nothing leaves that does not fit",
        f"{'# ' * (budget is None)}budget = {DEFAULT_BUDGET if budget is None else budget}  # rollouts of the task",
        f"{'# ' * (money is None)}max_cost_usd = {2.5 if money is None else money}  # all models together",
        "# max_time_seconds = 1800",
    ]


def _toml(value: Any) -> str:
    """A value as one line of TOML."""
    if isinstance(value, str):
        # JSON strings are TOML strings, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(str(key))} = {_toml(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _toml(key)
