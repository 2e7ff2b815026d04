"""The proposer that every optimizer asks: the next instruction of a task's pool, in the form that the request wants.

One pool for all, in one order for a run, makes a comparison one of search and not of writing. Texts that a request
wants beside the instruction (a summary of the data, a description of the program) are one fixed sentence, for all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

POOLS = Path(__file__).with_name("pools")
NEUTRAL = "Short texts come in, and each has exactly one right answer out of a fixed set of labels."

_FIELDS = re.compile(r"Respond with the corresponding output fields, starting with the field (.*)$", re.DOTALL)
_JSON = re.compile(r"Respond with a JSON object in the following order of fields: (.*)$", re.DOTALL)
_MARKED = re.compile(r"`\[\[ ## (\w+) ## \]\]`")
_QUOTED = re.compile(r"`(\w+)`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How an answer has to look, and the output fields that it has to hold where there are any."""

    style: Literal["tags", "fields", "json", "fence", "bare"]
    fields: tuple[str, ...] = ()

    @property
    def instructs(self) -> bool:
        """Whether an instruction is wanted, and not only what is said beside one."""
        return not self.fields or any(map(_is_instruction, self.fields))


@cache
def load_pool(task: str) -> tuple[str, ...]:
    """The instructions of a task, in the order of its file. Raises FileNotFoundError for a task without a pool."""
    return tuple(json.loads((POOLS / f"{task}.json").read_text(encoding="utf-8")))


def answer(messages: Any, pool: Sequence[str], run: str, number: int) -> str:
    """The reply to a request's `messages` (OpenAI chat), of any shape.

    `number` is how many instructions `run` has been given; after the last of the pool comes the first again. Runs of
    the same name get the same instructions in the same order.
    """
    wanted = form(messages)
    text = instruction(pool, run, number)
    said = {name: text if _is_instruction(name) else NEUTRAL for name in wanted.fields}
    if wanted.style == "tags":
        return f"<instruction>{text}</instruction>"
    if wanted.style == "fence":
        return f"```\n{text}\n```"
    if wanted.style == "json":
        return json.dumps(said)
    if wanted.style == "fields":
        parts = [f"[[ ## {name} ## ]]\n{value}" for name, value in said.items()]
        return "\n\n".join([*parts, "[[ ## completed ## ]]"])
    return text


def uses_up(messages: Any) -> bool:
    """Whether the answer to this request holds an instruction, so that the next request gets the next one."""
    return form(messages).instructs


def instruction(pool: Sequence[str], run: str, number: int) -> str:
    """Instruction `number` of the order that belongs to `run`; "" of an empty pool."""
    order = sorted(range(len(pool)), key=lambda index: blake2b(f"{run}\x1f{index}".encode()).digest())
    return pool[order[number % len(order)]] if order else ""


def form(messages: Any) -> Form:
    """The form that these messages ask for: what the last one says of it counts before what was said earlier."""
    texts = _texts(messages)
    last = texts[-1] if texts else ""
    if found := _FIELDS.search(last):
        names = tuple(name for name in _MARKED.findall(found[1]) if name != "completed")
        return Form(style="fields", fields=names) if names else Form(style="bare")
    if found := _JSON.search(last):
        names = tuple(_QUOTED.findall(found[1]))
        return Form(style="json", fields=names) if names else Form(style="bare")
    if "within ``` blocks" in last:
        return Form(style="fence")
    if any("between <instruction> and </instruction>" in text for text in texts):
        return Form(style="tags")
    return Form(style="bare")


def _is_instruction(name: str) -> bool:
    return "instruction" in name


def _texts(messages: Any) -> list[str]:
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes):
        return []
    return [_text(message.get("content")) for message in messages if isinstance(message, Mapping)]


def _text(content: Any) -> str:
    """The text of a message, also where it comes in parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, Mapping))
