"""Metrics that compare text: equality, containment, token overlap, patterns."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Any

from rollouts.dtypes import Sample, Score, Trajectory
from rollouts.errors import ConfigError, EvaluationError
from rollouts.evaluation.metrics.base import BuiltIn, as_text, expected, score_of, shown, truths
from rollouts.evaluation.metrics.structured import json_objects, parse_json

_PLAIN = str.maketrans({"“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "−": "-", "\u200b": ""})
_FENCE = re.compile(r"^\s*```[\w+-]*[ \t]*\n(.*?)\n?\s*```\s*$", re.DOTALL)
_PAIRS = tuple((mark, mark) for mark in ("```", "**", "__", "*", "_", "`", '"', "'"))
_BRACKETS = (("(", ")"), ("[", "]"), ("<", ">"), ("«", "»"))
_KIND = (
    "answer|label|class|category|type|tag|topic|intent|sentiment|emotion|route|queue|team|department|"
    "choice|option|solution|output|result|prediction|response"
)
_LEAD = rf"(?:the |my )?(?:final |correct |best |right |predicted )?(?:(?:{_KIND}) )?(?:{_KIND})"
_LABELLED = re.compile(rf"^[*_# ]*{_LEAD}[*_]*:[*_]* +(\S.*)$")
_SPOKEN = re.compile(rf"^{_LEAD} is:? +(\S.*)$")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def exact_match(*, normalise: bool = True) -> BuiltIn:
    """1 when the answer is the ground truth (or any of them), else 0.

    With `normalise`, both sides go through `normalise_answer`, and the answer may begin with a word for what is asked,
    such as `Label:`, `Sentiment:` or `The answer is`. Without it they must be equal to the last character.

    A ground truth that is an object is compared with the answer as JSON: white space and the order of keys do not
    matter. With `normalise` the JSON may stand in a code fence, and each text in it goes through `normalise_answer`.
    """

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        accepted = truths(sample)
        right = any(_matches(trajectory.output, truth, normalise) for truth in accepted)
        return score_of("exact_match", right, "Correct." if right else expected(accepted, trajectory.output))

    return BuiltIn(name="exact_match", options={"normalise": normalise}, score=score, any_of=True, version=3)


def contains(*, normalise: bool = True) -> BuiltIn:
    """1 when the ground truth (or any of them) stands somewhere in the answer, else 0.

    With `normalise`, case, white space and typographic variants do not matter, and only whole words count: `cat` is
    not in `concatenate`. Without it this is plain substring search. A long answer that names every label scores 1:
    prefer `exact_match` where labels are few. A ground truth that is an object is there, too, when a JSON object in the
    answer equals it, as in `exact_match`.
    """

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        accepted = truths(sample)
        right = any(_holds(trajectory.output, truth, normalise) for truth in accepted)
        return score_of("contains", right, "Correct." if right else expected(accepted, trajectory.output))

    return BuiltIn(name="contains", options={"normalise": normalise}, score=score, any_of=True, version=2)


def f1() -> BuiltIn:
    """F1 of the answer's words against the ground truth's, the best of several ground truths.

    As in SQuAD (Rajpurkar et al. 2016): case, punctuation and the articles a, an, the do not count; words are split at
    white space. Two texts without any word score 1 when both are, else 0.
    """

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        accepted = truths(sample)
        answer = _words(trajectory.output)
        value, best = max((_overlap(answer, _words(as_text(one))), as_text(one)) for one in accepted)
        missing, extra = _words(best) - answer, answer - _words(best)
        if not missing and not extra:
            return score_of("f1", value, "Correct.")
        parts = [
            f"{what} {shown(' '.join(words.elements()))}"
            for what, words in (("missing", missing), ("extra", extra))
            if words
        ]
        return score_of("f1", value, f"Expected {shown(best)}; {', '.join(parts)}.")

    return BuiltIn(name="f1", options={}, score=score, any_of=True)


def regex(pattern: str | None = None, *, full: bool = False, ignore_case: bool = False) -> BuiltIn:
    """1 when `pattern` is found in the answer (`full`: when it matches all of it, outer white space left out), else 0.

    `{ground_truth}` in the pattern stands for the sample's ground truth, taken literally. Without a pattern the
    ground truth is the pattern. Python's `re` has no time limit: nested repetition such as `(a+)+` can take for ever
    on an unlucky answer, so keep patterns linear. Raises ConfigError for a broken pattern.
    """
    if pattern is not None:
        _compile(pattern.replace("{ground_truth}", "x"), ignore_case, ConfigError)
    per_sample = pattern is None or "{ground_truth}" in pattern

    def patterns(sample: Sample) -> list[str]:
        if pattern is None:
            return [as_text(truth) for truth in truths(sample)]
        if per_sample:
            return [pattern.replace("{ground_truth}", re.escape(as_text(truth))) for truth in truths(sample)]
        return [pattern]

    def score(trajectory: Trajectory, sample: Sample) -> Score:
        tried = patterns(sample)
        text = trajectory.output.strip()
        compiled = [_compile(one, ignore_case, EvaluationError) for one in tried]
        right = any((one.fullmatch(text) if full else one.search(text)) is not None for one in compiled)
        how = "match" if full else "contain a match of"
        wanted = " or ".join(shown(one) for one in tried)
        wrong = f"Expected the answer to {how} the pattern {wanted}, got {shown(text)}."
        return score_of("regex", right, "Correct." if right else wrong)

    options = {"pattern": pattern, "full": full, "ignore_case": ignore_case}
    return BuiltIn(name="regex", options=options, score=score, any_of=per_sample)


@lru_cache(maxsize=4096)
def normalise_answer(text: str) -> str:
    """The text without differences that do not change an answer.

    Unicode NFKC, plain quotes and dashes, case folded, white space collapsed; then, from outside to inside: a code
    fence, pairs of Markdown emphasis, quotes or brackets round the whole, and punctuation at the end. Signs that can
    carry meaning stay: a leading `.`, `-`, `#` or `+`, a trailing `%` or `+`, anything inside. What would leave
    nothing is not taken away.
    """
    return _unwrapped(_folded(_FENCE.sub(r"\1", text)))


def _folded(text: str) -> str:
    plain = unicodedata.normalize("NFKC", text).translate(_PLAIN)
    return " ".join(unicodedata.normalize("NFKC", plain.casefold()).split())


def _unwrapped(text: str) -> str:
    while True:
        inner = _peeled(text).strip()
        if not inner or inner == text:
            return text
        text = inner


def _peeled(text: str) -> str:
    for opening, closing in (*_PAIRS, *_BRACKETS):
        inner = text[len(opening) : -len(closing)]
        if inner and text.startswith(opening) and text.endswith(closing) and not (set(opening + closing) & set(inner)):
            return inner
    return text.rstrip(".,;:!?") if text.rstrip(".,;:!?") else text


def _matches(answer: str, truth: Any, normalise: bool) -> bool:
    if _equal(answer, as_text(truth), normalise):
        return True
    if not isinstance(truth, dict | list):
        return False
    try:
        return _alike(parse_json(answer, allow_fence=normalise), truth, normalise)
    except ValueError:
        return False


def _holds(answer: str, truth: Any, normalise: bool) -> bool:
    if _within(answer, as_text(truth), normalise):
        return True
    return isinstance(truth, dict) and any(_alike(value, truth, normalise) for value in json_objects(answer))


def _alike(given: Any, wanted: Any, normalise: bool) -> bool:
    """Whether two JSON values are the same: `5` is `5.0`, but not `true`, which Python takes for 1."""
    match wanted:
        case str() if normalise and isinstance(given, str):
            return normalise_answer(given) == normalise_answer(wanted)
        case dict():
            same = isinstance(given, dict) and given.keys() == wanted.keys()
            return same and all(_alike(given[key], wanted[key], normalise) for key in wanted)
        case list():
            same = isinstance(given, list) and len(given) == len(wanted)
            return same and all(_alike(one, other, normalise) for one, other in zip(given, wanted, strict=True))
        case _:
            return isinstance(given, bool) == isinstance(wanted, bool) and bool(given == wanted)


def _equal(answer: str, truth: str, normalise: bool) -> bool:
    if not normalise:
        return answer == truth
    wanted, given = normalise_answer(truth), normalise_answer(answer)
    return given == wanted or (bool(wanted) and _without_label(given) == wanted)


def _without_label(text: str) -> str:
    """A folded answer without a leading `label:` or `the answer is`; empty when it has none.

    Only words for what is asked are dropped: any other one before a colon may be an answer itself.
    """
    led = _SPOKEN.match(text) or _LABELLED.match(text)
    return _unwrapped(led[1]) if led else ""


def _within(answer: str, truth: str, normalise: bool) -> bool:
    if not normalise:
        return truth in answer
    wanted, text = normalise_answer(truth), _folded(answer)
    if not wanted or any(unicodedata.east_asian_width(char) in "WF" for char in wanted):
        return bool(wanted) and wanted in text
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", text) is not None


def _words(text: str) -> Counter[str]:
    folded = _folded(text)
    plain = "".join(c for c in folded if c not in string.punctuation and not unicodedata.category(c).startswith("P"))
    return Counter(_ARTICLES.sub(" ", plain).split())


def _overlap(answer: Counter[str], truth: Counter[str]) -> float:
    if not answer or not truth:
        return float(answer == truth)
    common = (answer & truth).total()
    return 2 * common / (answer.total() + truth.total())


def _compile(pattern: str, ignore_case: bool, error: type[ConfigError | EvaluationError]) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE if ignore_case else 0)
    except re.error as problem:
        raise error(f"{pattern!r} is not a regular expression: {problem}") from None
