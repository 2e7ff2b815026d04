"""DSPy's side of the comparisons, with its cache off. All here needs `dspy`; ask `wanted` first."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import os
import re
import time
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, ClassVar

from benchmarks.engine.stopwatch import Stopwatch, Taken


def wanted(skip: bool) -> bool:
    """Whether to compare with DSPy: not when told to skip it, nor when it is not there. Says which."""
    if skip:
        print("dspy is left out")
        return False
    if importlib.util.find_spec("dspy") is None:
        print("dspy is not installed, so nothing is compared: benchmarks/README.md says how to install it")
        return False
    print(f"compared with dspy {version()}")
    return True


def version() -> str:
    """Its version."""
    return importlib.metadata.version("dspy")


def load() -> Any:
    """The module, quiet and without its disk cache."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    warnings.simplefilter("ignore")
    import dspy

    logging.getLogger("dspy").setLevel(logging.ERROR)
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return dspy


def make_lm(reply: Callable[[str], str], latency: Callable[[str], float] | None = None) -> Any:
    """An LM in this process: `reply` and `latency` (slept by the calling thread) are functions of the prompt's text.

    `waits` gets the latency of every call.
    """
    dspy = load()

    class InProcessLM(dspy.BaseLM):  # type: ignore[name-defined, misc]
        waits: ClassVar[list[float]] = []

        def forward(self, prompt: Any = None, messages: Any = None, **_: Any) -> Any:
            text = prompt or "\n".join(str(message["content"]) for message in messages)
            if latency is not None:
                seconds = latency(text)
                self.waits.append(seconds)
                time.sleep(seconds)
            message = SimpleNamespace(content=reply(text))
            usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
            return SimpleNamespace(
                choices=[SimpleNamespace(message=message, finish_reason="stop")], usage=usage, model="fake"
            )

    return InProcessLM("fake", cache=False, temperature=0.0, max_tokens=16)


def asked_fields(text: str) -> list[str]:
    """The output fields that the chat adapter asks for at the end of a prompt."""
    names = re.findall(r"\[\[ ## (\w+) ## \]\]", text[text.rfind("Respond with the corresponding output fields") :])
    return [name for name in names if name != "completed"]


def fields(**values: str) -> str:
    """An answer in the format of DSPy's chat adapter."""
    parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in values.items()]
    return "\n\n".join([*parts, "[[ ## completed ## ]]"])


def evaluated(
    questions: list[str], answer: str, threads: int, latency: Callable[[str], float] | None = None
) -> tuple[Taken, Any]:
    """What `dspy.Evaluate` takes for all questions, and its result."""
    dspy = load()
    said = fields(answer=answer)
    lm = make_lm(lambda _: said, latency)
    program = dspy.Predict("question -> answer")

    def matches(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(prediction.answer == example.answer)

    with dspy.context(lm=lm):
        watch = Stopwatch()
        rows = [dspy.Example(question=text, answer=answer).with_inputs("question") for text in questions]
        evaluate = dspy.Evaluate(devset=rows, metric=matches, num_threads=threads, display_progress=False)
        result = evaluate(program)
        taken = watch.taken()
    if result.score != 100.0:
        raise RuntimeError(f"the benchmark is broken: dspy scored {result.score}")
    return taken, result


def evaluate_all(
    questions: list[str], answer: str, threads: int, latency: Callable[[str], float] | None = None
) -> Taken:
    """What `dspy.Evaluate` takes for all questions."""
    return evaluated(questions, answer, threads, latency)[0]
