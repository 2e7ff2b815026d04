"""What every request for a rewritten text shares: how the task is told, the rules, the answer's form, a second try."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from rollouts.datasets import DatasetSummary
from rollouts.dtypes import Endpoint, Message, Request, Response, TextPart, Tool, unescaped
from rollouts.errors import FATAL, BudgetExhausted, ProviderError
from rollouts.prompt_optimization.proposers.base import Check, ProposalContext
from rollouts.prompt_optimization.proposers.lost import Lost, Tell, nobody

Generate = Callable[[Request], Awaitable[Response]]

WHAT: dict[TextPart, str] = {
    "system": "instruction (system prompt)",
    "user_template": "template of the user message",
}
_SHORT: dict[TextPart, str] = {"system": "instruction", "user_template": "template"}
_TAGGED = re.compile(r"<instruction>\s*(.*?)\s*(?:</instruction>|$)", re.DOTALL | re.IGNORECASE)
_FENCED = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_LABELS = 60
_TOOLS, _TOOL_CHARS = 40, 300
_KINDS = {"number": "the right answer is a number", "json": "the right answer is JSON", "text": "the answer is text"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A text that a model wrote, its whole last reply, and why the text is not to be used (None: it is)."""

    text: str
    reply: str
    lost: Lost | None


class Writer:
    """Asks `endpoint` for texts, at its own temperature of at least 0.7.

    `max_tokens` bounds an answer, and one that is cut there is taken as it is; None: the endpoint's own limit, and
    `least_tokens` at least, where a text that is cut is refused. `tell` hears what became of every text.
    """

    def __init__(
        self,
        generate: Generate,
        endpoint: Endpoint,
        *,
        least_tokens: int,
        max_tokens: int | None,
        tell: Tell = nobody,
    ) -> None:
        sampling = endpoint.sampling
        self._generate, self._tell, self._cuts = generate, tell, max_tokens is None
        self._endpoint = endpoint.with_sampling(
            temperature=max(sampling.temperature, 0.7),
            max_tokens=max(sampling.max_tokens, least_tokens) if max_tokens is None else max_tokens,
            stop=("</instruction>",),
        )

    async def write(self, messages: tuple[Message, ...], check: Check, *, number: int) -> Written:
        """The text asked for by `messages`; one that `check` refuses goes back once with the reason.

        `number` is different for every text of a run. A call that fails loses this text alone, but an error that every
        other call would meet too (`FATAL`) is raised.
        """
        request = Request(endpoint=self._endpoint, messages=messages, repeat=number, phase="propose")
        try:
            written = await self._checked(request, check)
        except (ProviderError, BudgetExhausted) as error:
            lost = Lost(type(error).__name__, str(error))
            if not (isinstance(error, ProviderError) and error.run_ending):
                self._tell(lost)
            if isinstance(error, FATAL):
                raise
            return Written(text="", reply="", lost=lost)
        self._tell(written.lost)
        return written

    async def _checked(self, request: Request, check: Check) -> Written:
        response = await self._generate(request)
        text, refused = self._read(response, check)
        if refused is not None:
            again = Message("user", f"This cannot be used: {refused}. Write it again, mending only that.")
            said = Message("assistant", f"<instruction>{text}</instruction>")
            response = await self._generate(replace(request, messages=(*request.messages, said, again)))
            text, refused = self._read(response, check)
        lost = None if refused is None else self._lost(response, refused)
        return Written(text=text, reply=response.text, lost=lost)

    def _read(self, response: Response, check: Check) -> tuple[str, str | None]:
        """The text of an answer, and what is wrong with it."""
        text = extract_instruction(response.text)
        if text and self._cuts and _cut(response):
            return text, "it was cut before its end; write it shorter"
        return text, check(text)

    def _lost(self, response: Response, refused: str) -> Lost:
        if not (_cut(response) and self._cuts):
            return Lost("the text was refused", refused)
        limit, advice = f"{self._endpoint.sampling.max_tokens} tokens", "(raise proposer.max_completion_tokens)"
        if response.text.strip():
            return Lost(f"the answer was cut at {limit} {advice}")
        return Lost(f"the answer was empty: the model spent its whole limit of {limit} on thinking {advice}")


def _cut(response: Response) -> bool:
    """Whether the answer ended at the limit of tokens, before the end of its text."""
    return response.finish_reason == "length" and "</instruction>" not in response.text.lower()


def repeatable(endpoint: Endpoint, seed: int) -> Endpoint:
    """The embedded model with a sampling seed, so that a run repeats; other endpoints as they are."""
    seedless = endpoint.provider == "local" and endpoint.sampling.seed is None
    return endpoint.with_sampling(seed=seed) if seedless else endpoint


def extract_instruction(reply: str) -> str:
    """The text between the tags, or the whole reply without fence and quotes."""
    tagged = _TAGGED.search(reply)
    text = (tagged.group(1) if tagged else reply).strip()
    fenced = _FENCED.match(text)
    if fenced:
        text = fenced.group(1).strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip()
    return text


def summary_text(summary: DatasetSummary) -> str:
    """A data set in a few words, for a prompt."""
    parts = [f"{summary.n} rows with {', '.join(summary.columns)}; inputs of about {summary.lengths.median} characters"]
    if summary.labels:
        shown = sorted(summary.labels)[:_LABELS]
        more = f" and {len(summary.labels) - _LABELS} more" if len(summary.labels) > _LABELS else ""
        parts.append(f"the right answer is one of {', '.join(shown)}{more}")
    elif summary.answers in _KINDS:
        parts.append(_KINDS[summary.answers])
    return "; ".join(parts) + "."


def tools_text(tools: Sequence[Tool]) -> str:
    """Tools in a line each, for a prompt."""
    lines = []
    for tool in tools[:_TOOLS]:
        arguments = ", ".join(tool.parameters.get("properties") or ())
        about = " ".join(tool.description.split())
        lines.append(f"- {tool.name}({arguments}): {about[:_TOOL_CHARS]}{'...' if len(about) > _TOOL_CHARS else ''}")
    more = f"\n- and {len(tools) - _TOOLS} more" if len(tools) > _TOOLS else ""
    return "The model can call these tools, and is told of them besides:\n" + "\n".join(lines) + more


def task_parts(context: ProposalContext) -> list[str]:
    """The task in paragraphs: what it is for, its other steps, its tools and data, and the text that goes with this."""
    parts = [f"What the program is for: {context.description}"] if context.description else []
    if context.others:
        others = "\n".join(f"- {name}: {system}" for name, system in context.others.items())
        parts.append(f"The program has several steps; yours is {context.module!r}. The others:\n{others}")
    if context.tools:
        parts.append(tools_text(context.tools))
    parts.append(f"The data it works on: {summary_text(context.summary)}")
    if context.part == "system":
        parts.append("The user message is made from this template:\n" + context.template.user_template)
    else:
        parts.append("The instruction that goes with it:\n" + context.template.system)
    return parts


def text_now(context: ProposalContext) -> str:
    """The text to improve, in the tags of an answer."""
    return f"The {WHAT[context.part]} now:\n<instruction>{context.text}</instruction>"


def rules_of(context: ProposalContext, copying: str) -> str:
    """What a new text must satisfy; `copying` says what it may not take over."""
    rules = [f"at most {context.max_tokens} tokens", copying]
    if "{" in context.text:
        rules.append("keep every {placeholder} exactly as it stands")
    if unescaped(context.text) != context.text:
        rules.append("keep the backslash before a brace where there is one")
    rules += [f"keep this word for word: {span!r}" for span in context.frozen_spans if span in context.text]
    return f"Rules: {'; '.join(rules)}."


def form_of(context: ProposalContext) -> str:
    """How the answer has to look."""
    return f"Write the new {_SHORT[context.part]} between <instruction> and </instruction>, and nothing else."
