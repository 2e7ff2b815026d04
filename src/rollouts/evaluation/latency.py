"""Latency caps of one rollout: calls are cut, and a rollout that broke a cap has no score."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rollouts.budget import Constraints
from rollouts.dtypes import Call, Evaluation, Failure, Request, Response
from rollouts.errors import LatencyCapExceeded
from rollouts.llm.client import Client


class LatencyWatch:
    """What the calls of one rollout have taken so far, against the caps on it and on its modules.

    `broken` is the first cap that was broken, whatever the program made of the error.
    """

    def __init__(self, constraints: Constraints) -> None:
        self._constraints = constraints
        self._taken = 0.0
        self.broken: LatencyCapExceeded | None = None

    def client(self, inner: Client, module: str) -> Client:
        """A client for one run of `module`."""
        return _Watched(inner, self, module, self._constraints.of(module).max_latency_s)

    def left(self, module: str, cap: float | None, taken: float) -> tuple[float, str]:
        """Seconds that the next call may take, and whose cap it is: the module's, or the program's (no name)."""
        whole = self._constraints.max_latency_s
        own = (float("inf") if cap is None else cap - taken, module)
        return min(own, (float("inf") if whole is None else whole - self._taken, ""))

    def took(self, seconds: float) -> None:
        """One more call came to its end."""
        self._taken += seconds

    def cut(self, error: LatencyCapExceeded) -> LatencyCapExceeded:
        """Takes note of a broken cap."""
        self.broken = self.broken or error
        return error


class _Watched:
    def __init__(self, inner: Client, watch: LatencyWatch, module: str, cap: float | None) -> None:
        self._inner, self._watch, self._module, self._cap = inner, watch, module, cap
        self._taken = 0.0

    async def complete(self, request: Request) -> Response:
        watch = self._watch
        left, whose = watch.left(self._module, self._cap, self._taken)
        if left == float("inf"):
            response = await self._inner.complete(request)
        else:
            response = await self._within(left, whose, request)
        self._taken += response.latency_s
        watch.took(response.latency_s)
        # Calls that run at the same time can pass the cap on the whole only together.
        left, whose = watch.left(self._module, self._cap, self._taken)
        if left < 0:
            raise watch.cut(LatencyCapExceeded(_message(self._module, whose), module=whose))
        return response

    async def _within(self, left: float, whose: str, request: Request) -> Response:
        try:
            if left > 0:
                return await self._inner.complete(replace(request, max_latency_s=left))
        except LatencyCapExceeded as error:
            raise self._watch.cut(LatencyCapExceeded(_message(self._module, whose), module=whose)) from error
        raise self._watch.cut(LatencyCapExceeded(_message(self._module, whose), module=whose))

    async def close(self) -> None:
        """The client belongs to the run."""


def _message(module: str, whose: str) -> str:
    return f"a call of {module!r} outlived the latency cap of {'its module' if whose else 'the rollout'}"


def cut_failure(error: LatencyCapExceeded) -> Failure:
    """The failure of a rollout that broke a cap."""
    return Failure(kind=type(error).__name__, message=str(error), stage="latency", module=error.module)


def within_caps(evaluation: Evaluation, constraints: Constraints, modules: Iterable[str]) -> Evaluation:
    """The evaluation, without its score where it took longer than the caps allow: it may be known from a run without
    them. `modules` are those of its program."""
    if not constraints.cuts or evaluation.score is None:
        return evaluation
    cap = constraints.max_latency_s
    broken = [""] if cap is not None and evaluation.latency_s > cap else []
    for module, seconds in slowest_runs(evaluation, modules).items():
        own = constraints.of(module).max_latency_s
        broken += [module] if own is not None and seconds > own else []
    if not broken:
        return evaluation
    error = LatencyCapExceeded(
        f"it took {evaluation.latency_s:.3g} s when it was run, more than the latency cap allows", module=broken[0]
    )
    return replace(evaluation, score=None, failure=cut_failure(error))


def slowest_runs(evaluation: Evaluation, modules: Iterable[str]) -> dict[str, float]:
    """Seconds of the slowest run of each module in a rollout, for the modules that ran."""
    out: dict[str, float] = {}
    running = 0.0
    for call in calls_of(evaluation, modules):
        running = call.latency_s if call.turn == 1 else running + call.latency_s
        out[call.module] = max(out.get(call.module, 0.0), running)
    return out


def calls_of(evaluation: Evaluation, modules: Iterable[str]) -> tuple[Call, ...]:
    """The calls of a rollout. Of one that made a single call of the module `main`, or of the only one, the store keeps
    the sums alone."""
    if evaluation.trajectory is not None and evaluation.trajectory.calls:
        return evaluation.trajectory.calls
    if not evaluation.calls:
        return ()
    names = list(modules)
    module = names[0] if len(names) == 1 else "main"
    cost, latency = evaluation.cost_micros, evaluation.latency_s
    return (Call(module=module, usage=evaluation.usage, cost_micros=cost, latency_s=latency),)
