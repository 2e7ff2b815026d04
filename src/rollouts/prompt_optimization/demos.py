"""Demonstration sets: what MIPRO chooses from beside instructions.

Every set is fixed for all samples, so that a candidate's prompt is one text that can be exported and cached.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rollouts.dtypes import FewShotExample, PromptTemplate, Sample, ScoreFn, fill, value_text
from rollouts.evaluation.metrics import BuiltIn

_MAX_LABELS = 100
_MAX_POOL = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoSet:
    """Demonstrations and where they come from: `none`, `own`, `labelled`, `balanced`, `nearest`, `bootstrapped`,
    `mixed`, `varied`."""

    source: str
    examples: tuple[FewShotExample, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoLimits:
    """How many demonstrations of each kind a set may hold, and how many sets to make."""

    bootstrapped: int
    labelled: int
    sets: int


def example_of(template: PromptTemplate, sample: Sample, output: str | None = None) -> FewShotExample:
    """The sample as a demonstration: its user message, and `output` or else its ground truth."""
    said = value_text(sample.ground_truth) if output is None else output
    return FewShotExample(fill(template.user_template, sample.inputs), said, values=sample.inputs)


def with_one_answer(samples: Sequence[Sample], score_fn: ScoreFn) -> list[Sample]:
    """The samples with the answer that a demonstration shows: the first of several accepted ones, where `score_fn`
    takes a list for that (`BuiltIn.any_of`)."""
    if not isinstance(score_fn, BuiltIn) or not score_fn.any_of:
        return list(samples)
    several = [isinstance(sample.ground_truth, list | tuple) and bool(sample.ground_truth) for sample in samples]
    return [
        replace(sample, ground_truth=sample.ground_truth[0]) if more else sample
        for sample, more in zip(samples, several, strict=True)
    ]


def reformatted(examples: Sequence[FewShotExample], user_template: str) -> tuple[FewShotExample, ...]:
    """Demonstrations whose user messages follow another template; those of unknown origin stay as they are."""
    return tuple(
        example if example.values is None else replace(example, input=fill(user_template, example.values))
        for example in examples
    )


def build_demo_sets(
    template: PromptTemplate,
    train: Sequence[Sample],
    successes: Sequence[FewShotExample],
    limits: DemoLimits,
    *,
    seed: int,
) -> list[DemoSet]:
    """Up to `limits.sets` sets beside the two that are always there: the empty one (first) and the user's own.

    Sources take turns, so that a short list still holds every kind. Sets of the same demonstrations in the same order
    are made once, and of rows with the same user message one is used.
    """
    rng = random.Random(f"rollouts-demos-{seed}")
    sets = [DemoSet(source="none", examples=())]
    if template.few_shot_examples:
        sets.append(own_demos(template))
    known = {fill(template.user_template, sample.inputs): sample for sample in reversed(train) if _answered(sample)}
    labelled = list(reversed(known.values()))
    different = {example.input: example for example in successes}
    makers = _makers(template, labelled, list(different.values()), limits, rng)
    seen = {entry.examples for entry in sets}
    target, idle = len(sets) + limits.sets, 0
    while makers and len(sets) < target and idle < 4 * len(makers):
        source, make = makers.pop(0)
        makers.append((source, make))
        examples = tuple(make())
        idle += 1
        if examples and examples not in seen:
            seen.add(examples)
            sets.append(DemoSet(source=source, examples=examples))
            idle = 0
    return sets


Answers = Mapping[str, Sequence[FewShotExample]]
"""Demonstrations by what they answer."""


def demo_pool(template: PromptTemplate, train: Sequence[Sample], sets: Sequence[DemoSet]) -> Answers:
    """All that a demonstration can be exchanged for: the labelled rows of `train`, and what stands in `sets`."""
    out: dict[str, dict[FewShotExample, None]] = defaultdict(dict)
    for sample in train:
        if _answered(sample):
            example = example_of(template, sample)
            out[example.output][example] = None
    for entry in sets:
        for example in entry.examples:
            out[example.output][example] = None
    return {answer: list(examples) for answer, examples in out.items()}


def varied(entry: DemoSet, pool: Answers, rng: random.Random) -> DemoSet | None:
    """The set with half of its demonstrations exchanged for others that give the same answer.

    The order of the answers is kept: for small models it decides more than the examples do. None where there is nothing
    to exchange.
    """
    examples = list(entry.examples)
    shown = {example.input for example in examples}
    places = [i for i, e in enumerate(examples) if any(o.input not in shown for o in pool.get(e.output, ()))]
    for place in rng.sample(places, min(len(places), max(1, len(examples) // 2))):
        others = [other for other in pool[examples[place].output] if other.input not in shown]
        if others:
            examples[place] = rng.choice(others)
            shown.add(examples[place].input)
    return DemoSet(source="varied", examples=tuple(examples)) if places else None


def own_demos(template: PromptTemplate) -> DemoSet:
    """The template's own demonstrations as a set."""
    return DemoSet(source="own" if template.few_shot_examples else "none", examples=template.few_shot_examples)


def _answered(sample: Sample) -> bool:
    return sample.ground_truth is not None


_Maker = tuple[str, Callable[[], Sequence[FewShotExample]]]


def _makers(
    template: PromptTemplate,
    labelled: Sequence[Sample],
    successes: Sequence[FewShotExample],
    limits: DemoLimits,
    rng: random.Random,
) -> list[_Maker]:
    def examples(samples: Sequence[Sample]) -> list[FewShotExample]:
        return [example_of(template, sample) for sample in samples]

    makers: list[_Maker] = []
    count = min(limits.labelled, len(labelled))
    if count:
        groups = by_label(labelled)
        half = _half(count, len(groups))
        if len(groups) > 1:
            ends = itertools.cycle(rng.sample(list(groups), len(groups)))
            makers.append(("balanced", lambda: examples(balanced(groups, count, rng, last=next(ends)))))
            makers.append(("balanced", lambda: examples(balanced(groups, half, rng, last=next(ends)))))
        makers.append(("nearest", lambda: examples(nearest(template, groups, count, rng))))
        if len(groups) > 1:
            makers.append(("balanced", lambda: examples(balanced(groups, count, rng, last=next(ends)))))
        makers.append(("labelled", lambda: examples(rng.sample(labelled, count))))
        makers.append(("nearest", lambda: examples(nearest(template, groups, half, rng))))
    kept = min(limits.bootstrapped, len(successes))
    if kept:
        makers.insert(1, ("bootstrapped", lambda: rng.sample(successes, kept)))
        if count:
            makers.append(("mixed", lambda: _mixed(rng.sample(successes, kept), examples(labelled), count, rng)))
    return makers


def _half(count: int, labels: int) -> int:
    """Half as many, which can be better and is always cheaper, as long as every label is shown twice; else `count`."""
    return count // 2 if count // 2 >= max(1, 2 * labels) else count


def _mixed(
    kept: Sequence[FewShotExample], labelled: Sequence[FewShotExample], count: int, rng: random.Random
) -> list[FewShotExample]:
    """Bootstrapped first, then labelled ones of other inputs up to `count` in all, in random order."""
    inputs = {example.input for example in kept}
    rest = [example for example in labelled if example.input not in inputs]
    out = [*kept, *rng.sample(rest, min(len(rest), max(0, count - len(kept))))]
    rng.shuffle(out)
    return out


def by_label(samples: Sequence[Sample]) -> Mapping[str, list[Sample]]:
    """Samples by ground truth; one group when the answers are not a small set of labels."""
    counts = Counter(value_text(sample.ground_truth) for sample in samples)
    if len(counts) > min(_MAX_LABELS, max(1, len(samples) // 2)):
        return {"": list(samples)}
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        groups[value_text(sample.ground_truth)].append(sample)
    return dict(sorted(groups.items()))


def balanced(
    groups: Mapping[str, list[Sample]], count: int, rng: random.Random, *, last: str | None = None
) -> list[Sample]:
    """`count` samples, the same number of every label (within one), in random order: a model may take a regular one for
    the rule and continue it.

    `last` is the label of the last sample: models lean towards what they saw last, so sets that differ in it are worth
    trying.
    """
    shuffled = {label: rng.sample(rows, len(rows)) for label, rows in groups.items()}
    out: list[Sample] = []
    while len(out) < count:
        labels = [label for label in shuffled if shuffled[label]]
        if not labels:
            break
        rng.shuffle(labels)
        out.extend(shuffled[label].pop() for label in labels[: count - len(out)])
    rng.shuffle(out)
    ends = [i for i, sample in enumerate(out) if value_text(sample.ground_truth) == last]
    return out[ends[-1] + 1 :] + out[: ends[-1] + 1] if ends else out


def nearest(
    template: PromptTemplate, groups: Mapping[str, list[Sample]], count: int, rng: random.Random
) -> list[Sample]:
    """Samples that stand near to as many others as possible, the same number of every label (within one).

    Greedy facility location on word-vector similarity, label by label: every training input is to have a near neighbour
    of its own label among the demonstrations. Works on a random two thirds of the samples, so that each call gives
    another set.
    """
    labels = rng.sample(list(groups), len(groups))
    chosen = {
        label: _central(template, groups[label], -(-(count - i) // len(labels)), rng) for i, label in enumerate(labels)
    }
    return balanced(chosen, count, rng)


def _central(template: PromptTemplate, samples: Sequence[Sample], count: int, rng: random.Random) -> list[Sample]:
    pool = rng.sample(samples, min(len(samples), max(count, math.ceil(2 * len(samples) / 3))))[:_MAX_POOL]
    vectors = _vectors([fill(template.user_template, sample.inputs) for sample in pool])
    similarity = [[_dot(a, b) for b in vectors] for a in vectors]
    covered = [0.0] * len(pool)
    chosen: list[int] = []
    for _ in range(min(count, len(pool))):
        gains = [
            -1.0 if i in chosen else sum(max(0.0, row - have) for row, have in zip(similarity[i], covered, strict=True))
            for i in range(len(pool))
        ]
        best = max(range(len(pool)), key=gains.__getitem__)
        chosen.append(best)
        covered = [max(have, row) for have, row in zip(covered, similarity[best], strict=True)]
    return [pool[i] for i in chosen]


def _vectors(texts: Sequence[str]) -> list[dict[str, float]]:
    """Unit tf-idf vectors over lower-cased words."""
    words = [Counter("".join(c if c.isalnum() else " " for c in text.lower()).split()) for text in texts]
    seen = Counter(word for counter in words for word in counter)
    out = []
    for counter in words:
        vector = {word: n * math.log(1 + len(texts) / seen[word]) for word, n in counter.items()}
        norm = math.sqrt(sum(v * v for v in vector.values())) or 1.0
        out.append({word: v / norm for word, v in vector.items()})
    return out


def _dot(a: Mapping[str, float], b: Mapping[str, float]) -> float:
    if len(b) < len(a):
        a, b = b, a
    return sum(v * b[word] for word, v in a.items() if word in b)
