"""Every error that `rollouts` raises on purpose.

    RolloutsError
    ├── ConfigError                 a setting, key or argument is wrong: change it and run again
    │   ├── TemplateError           a placeholder is unknown, missing or broken
    │   └── PriceUnknown            a money cap is set and the model has no known price
    ├── DataError                   a file, row or column of the data set is wrong
    ├── BudgetExhausted             the next call does not fit in what is left of a cap
    ├── ProviderError               a model endpoint failed (`status`, `retry_after`)
    │   ├── RateLimited             429; retried
    │   ├── ProviderUnavailable     5xx, refused or cut connection; retried
    │   ├── CallTimeout             no answer in time; retried
    │   ├── LatencyCapExceeded      a call outlived the latency cap that its prompt must keep; final
    │   ├── MalformedResponse       an answer that is not the protocol's; retried
    │   ├── AuthenticationFailed    401, 403; final
    │   ├── ModelNotFound           404; final
    │   └── InvalidRequest          any other 4xx; final
    │       └── NoCredit            402, or another status that says so: the account's credit is used up
    ├── TaskAppError                a task app gave no rollout (`status`, `retry_after`)
    ├── AgentError                  the tool loop came to no answer
    │   ├── TurnLimitReached        the last turn allowed gave no answer either
    │   ├── RepeatedCalls           the model kept making the same call, and then gave no answer
    │   └── EnvironmentFailed       an environment could not be set up, or was lost
    ├── EvaluationError             the score function failed, or returned no usable number
    │   └── TooManyFailures         the share of failed rollouts passed its limit
    ├── StoreError                  the store cannot be read or written
    │   ├── StoreTooNew             it was written by a newer version
    │   └── RunLocked               another process works on this run
    ├── RunNotFound                 no run has that id
    └── ServiceError                the service refuses a request, or does not answer (`status`, `code`)

The message of each says what is wrong and what to change. None ever holds a secret.
"""

from __future__ import annotations


class RolloutsError(Exception):
    """Base of all errors raised on purpose."""


class ConfigError(RolloutsError):
    """A setting, key or argument is wrong."""


class TemplateError(ConfigError):
    """A prompt template and its sample do not fit together."""


class PriceUnknown(ConfigError):
    """A cap on money is set and the price of the model is not known."""


class DataError(RolloutsError):
    """A data set cannot be used as it is; the message names file, row and column."""


class BudgetExhausted(RolloutsError):
    """The next call does not fit in what is left of a cap.

    `resource` is one of `usd`, `tokens`, `calls`, `rollouts`, `seconds`. Amounts are in that resource's unit
    (`usd` in micro-dollars). `module` names the module whose own cap it is; empty for the run's.
    """

    def __init__(self, resource: str, *, cap: float, committed: float, wanted: float, module: str = "") -> None:
        self.resource, self.cap, self.committed, self.wanted = resource, cap, committed, wanted
        self.module = module
        scale = 1e6 if resource == "usd" else 1
        of = f" of module {module!r}" if module else ""
        super().__init__(
            f"the cap{of} of {cap / scale:g} {resource} is used up: {committed / scale:g} spent or reserved, "
            f"the next call may need {wanted / scale:g} more"
        )


class ProviderError(RolloutsError):
    """A model endpoint failed.

    `status` is the HTTP status where there was one; `retry_after` is in seconds. `retryable` says whether the same
    request may succeed later. `billed` is False when the endpoint certainly did not charge for the attempt.
    `run_ending` says that it was given up only because the run is to end.
    """

    retryable = False
    billed = False
    run_ending = False

    def __init__(self, message: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status, self.retry_after = status, retry_after


class RateLimited(ProviderError):
    """The endpoint asked for fewer requests (429)."""

    retryable = True


class ProviderUnavailable(ProviderError):
    """The endpoint is down, overloaded or cut the connection.

    `billed` is set on the instance when the request had been sent and the answer was lost on the way.
    """

    retryable = True


class CallTimeout(ProviderError):
    """No complete answer within the time limit; the endpoint may still charge for it."""

    retryable = True
    billed = True


class LatencyCapExceeded(ProviderError):
    """The call took longer than `Constraints.max_latency_s` allows and was cut; the endpoint may still charge for it.

    `module` is the module whose cap it was, empty for the cap of the whole program.
    """

    billed = True

    def __init__(self, message: str, *, module: str = "") -> None:
        super().__init__(message)
        self.module = module


class MalformedResponse(ProviderError):
    """The endpoint answered with something that is not its protocol; it may still charge for it."""

    retryable = True
    billed = True


class AuthenticationFailed(ProviderError):
    """The key is missing, wrong or not allowed (401, 403)."""


class ModelNotFound(ProviderError):
    """The endpoint has no such model or route (404)."""


class InvalidRequest(ProviderError):
    """The endpoint refuses the request as it is (other 4xx)."""


class NoCredit(InvalidRequest):
    """The account has no credit left: every other call would be refused, too (402, or a 429 that says so)."""


class TaskAppError(RolloutsError):
    """A task app gave no rollout: it is down, too slow, answers nonsense, or says that its own model call failed.

    `status` is the HTTP status where there was one, `retry_after` is in seconds; `retryable` says whether the same
    rollout may succeed later.
    """

    def __init__(
        self, message: str, *, retryable: bool = False, status: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.retryable, self.status, self.retry_after = retryable, status, retry_after


class AgentError(RolloutsError):
    """A tool-using agent came to no answer."""


class TurnLimitReached(AgentError):
    """The model used up its turns, and the last one, made without tools, was no answer either."""


class RepeatedCalls(AgentError):
    """The model made the same tool call again and again, and gave no answer when its tools were taken away."""


class EnvironmentFailed(AgentError):
    """An environment could not be set up for a sample, or was lost while it was used."""


class EvaluationError(RolloutsError):
    """A score function failed or returned something that is not a finite number."""


class TooManyFailures(EvaluationError):
    """More rollouts failed than the run allows."""


class StoreError(RolloutsError):
    """The store cannot be read or written."""


class StoreTooNew(StoreError):
    """The store was written by a newer version of `rollouts`."""


class RunLocked(StoreError):
    """Another live process works on the run."""


class RunNotFound(RolloutsError):
    """No run has that id."""


class ServiceError(RolloutsError):
    """The service refuses a request, or does not answer: raised by its routes, and again by the client.

    `status` is the HTTP status, 0 where there was no answer; `code` names the reason in snake_case for programs.
    """

    def __init__(self, message: str, *, status: int = 0, code: str = "") -> None:
        super().__init__(message)
        self.status, self.code = status, code


FATAL = (AuthenticationFailed, ModelNotFound, NoCredit, ConfigError, StoreError)
"""Errors that every other call of the run would meet too: they end the run at once."""
