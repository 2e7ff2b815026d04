"""What the native routes take and give."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rollouts.service.jobs.model import Status

JOB_ID = "pl_0123456789abcdef"
_CONFIG = {
    "prompt_learning": {
        "algorithm": "mipro",
        "dataset": {"train": 20, "val": 40, "test": 40},
        "initial_prompt": {"system": "Route the ticket.", "user": "Ticket: {text}"},
        "policy": {"provider": "openai", "model": "gpt-4.1-nano"},
        "termination_config": {"budget": 400, "max_cost_usd": 1.0},
    }
}
Seeds = Annotated[list[Annotated[int, Field(ge=0, le=2**63 - 1)]], Field(max_length=100_000)]


class Body(BaseModel):
    """A request's body: closed to unknown fields."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class TaskAppRef(Body):
    """The task app that a job's rollouts are made in, instead of a data set."""

    url: str = Field(max_length=2000, examples=["http://127.0.0.1:8001"])
    env: dict[str, Any] = Field({}, description="Sent as `env` with every rollout: `env_name`, `config`.")
    timeout_s: float = Field(120.0, gt=0, le=3600, description="Seconds that one rollout may take.")
    slots: int = Field(16, ge=1, le=1000, description="Rollouts in the app at once.")
    max_attempts: int = Field(3, ge=1, le=20, description="Attempts at a rollout that may succeed later.")
    key_name: str | None = Field(
        None, max_length=128, description="Name of the uploaded environment key that the app asks for."
    )
    train_seeds: Seeds = Field(min_length=1, description="Seeds for demonstrations and reflection.")
    val_seeds: Seeds = Field(min_length=1, description="Seeds that candidates are compared on.")
    test_seeds: Seeds = Field([], description="Seeds that the search never sees; none means no verdict.")


class WebhookRef(Body):
    """Where the end of a job is told: a POST with the job as it is then, signed as Standard Webhooks says."""

    url: str = Field(max_length=2000, examples=["https://example.org/hooks/rollouts"])
    key_name: str | None = Field(
        None, max_length=128, description="Name of the uploaded environment key that signs; by default WEBHOOK_SECRET."
    )


class NewJob(Body):
    """A job: a job file as JSON, and where its data come from."""

    config: dict[str, Any] = Field(
        description="The content of a job file; see the configuration page.", examples=[_CONFIG]
    )
    name: str = Field("", max_length=200, description="Name in lists; by default that in the job file.")
    rows: list[dict[str, Any]] | None = Field(
        None,
        min_length=1,
        description="The data set itself, instead of the name of one.",
        examples=[[{"text": "I was charged twice", "label": "billing"}, {"text": "It crashes", "label": "bugs"}]],
    )
    task_app: TaskAppRef | None = None
    webhook: WebhookRef | None = None


class JobView(BaseModel):
    """A job as it is now. Times are seconds since the epoch.

    `finished_at` is set when nothing of it is in flight any more, a moment after a job is `cancelled`. `best_score` is
    the best candidate's on validation samples, so far or in the end.
    """

    id: str = Field(examples=[JOB_ID])
    kind: str = Field(examples=["native"])
    name: str = Field(examples=["tickets"])
    status: Status = Field(examples=["running"])
    created_at: float = Field(examples=[1763740800.0])
    started_at: float | None = None
    finished_at: float | None = None
    error: str | None = Field(None, description="Why it failed, and what to change.")
    phase: str | None = Field(None, examples=["search"])
    best_score: float | None = Field(None, examples=[0.82])
    baseline_score: float | None = Field(None, examples=[0.61])
    verdict: Literal["ship", "keep", "undecided"] | None = None


class JobPage(BaseModel):
    """Jobs, the newest first. `next` is the `before` of the page that follows, null on the last one."""

    jobs: list[JobView]
    next: str | None = None


class EventView(BaseModel):
    """Something that happened in a job. `seq` counts up from 1."""

    seq: int = Field(examples=[12])
    kind: str = Field(examples=["trial"])
    data: dict[str, Any] = Field(examples=[{"trial": 3, "score": 0.7, "best": 0.8}])
    created_at: float


class EventPage(BaseModel):
    """Events in order. `next_seq` is the `since_seq` of the page that follows; `ended` says that there will be none."""

    events: list[EventView]
    next_seq: int
    ended: bool


class Results(BaseModel):
    """What a job that came to an end has to say: the summary of its run, and the result files by name."""

    job: JobView
    summary: dict[str, Any]
    files: dict[str, Any]


class BestPrompt(BaseModel):
    """The winner: what `best_prompt.json` holds, ready to send, with its score on validation samples."""

    job_id: str = Field(examples=[JOB_ID])
    score: float | None
    verdict: dict[str, Any] | None
    prompt: dict[str, Any]


class Candidate(BaseModel):
    """Something that was tried. `score` is the mean over `n` samples: of validation in the end (`final`), of any use
    before. `prompt` is what `best_prompt.json` holds of a winner, there in the end only."""

    program: str
    score: float | None
    n: int
    id: str = ""
    prompt: dict[str, Any] | None = None


class Candidates(BaseModel):
    """All that was tried, best first."""

    job_id: str = Field(examples=[JOB_ID])
    final: bool
    candidates: list[Candidate]


class Spent(BaseModel):
    """Amounts: micro-dollars, tokens, model calls, rollouts, seconds of model time."""

    micros: int = 0
    tokens: int = 0
    calls: int = 0
    rollouts: int = 0
    seconds: float = 0.0


class SpendView(BaseModel):
    """What a job has spent, and what it may. While it runs, `total` is exact; of one that was cut off it is the bound
    that was authorised. Caps that are not set are null."""

    job_id: str = Field(examples=[JOB_ID])
    total: Spent
    by_phase: dict[str, Spent]
    caps: dict[str, float | None]
    elapsed_s: float
