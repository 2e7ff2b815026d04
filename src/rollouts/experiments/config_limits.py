"""Hard caps of a job, and what its prompt must satisfy: of the whole program, and of single modules by name."""

from __future__ import annotations

from rollouts.experiments import config_compat as compat
from rollouts.experiments.config_base import Table, setting


class ModuleBudgetTable(Table):
    """What single modules may take, by module name; r-MIPRO alone keeps such caps. They are hard, like the whole's."""

    max_calls: int | None = setting(None, "Most calls of the module, retries counted.", shown="no cap", ge=1)
    max_tokens: int | None = setting(
        None, "Most tokens of the module's calls, prompt and answer together.", shown="no cap", ge=1
    )
    max_cost_usd: float | None = setting(None, "Most dollars for the module's calls.", shown="no cap", ge=0)
    max_time_seconds: float | None = setting(
        None, "Most seconds of the module's calls, added up.", aliases=("max_seconds",), shown="no cap", gt=0
    )
    max_trials: int | None = setting(None, "Most trials of the module.", shown="no cap", ge=0)


class TerminationTable(Table):
    """When the run stops. Caps are hard: what a call may take at worst is reserved before it leaves."""

    no_effect = compat.TERMINATION
    budget: int | None = setting(
        None,
        "Most rollouts: runs of the task on a row that were not already known.",
        aliases=("max_rollouts",),
        shown="1000 where no cap on calls, tokens or dollars is set",
        ge=1,
    )
    max_calls: int | None = setting(None, "Most calls to any model, retries counted.", shown="no cap", ge=1)
    max_tokens: int | None = setting(
        None, "Most tokens of all calls, prompt and answer together.", shown="no cap", ge=1
    )
    max_cost_usd: float | None = setting(
        None, "Most dollars for all calls: task, judge, proposer, retries.", shown="no cap", ge=0
    )
    max_time_seconds: float | None = setting(
        None, "Most seconds of wall-clock time.", aliases=("max_seconds",), shown="no cap", gt=0
    )
    max_trials: int | None = setting(
        None,
        "Takes the place of a larger `mipro.num_iterations` (`gepa.generations`, `rmipro.num_trials`).",
        shown="no cap",
        ge=1,
    )
    target_score: float | None = setting(
        None,
        "Stop once the best candidate has 30 validation scores (or all) and the lower end of its interval is at this "
        "score. GEPA: once its mean over all validation rows is; r-MIPRO: once its mean over 20 of them (or all) is.",
        shown="none",
    )
    patience: int | None = setting(
        None,
        "Stop after so many trials without a better candidate; a race, where no other candidate came to lead for this "
        "x `minibatch_size` rollouts. GEPA: after so many generations.",
        aliases=("max_trials_without_improvement",),
        shown="none",
        ge=1,
    )
    modules: dict[str, ModuleBudgetTable] = setting({}, "Caps of single modules, by module name (r-MIPRO).")


class ModuleConstraintsTable(Table):
    """Limits of single modules of the shipped program, by module name."""

    max_prompt_tokens: int | None = setting(
        None, "Most tokens of the module's prompt without its values.", shown="no limit", ge=1
    )
    max_latency_s: float | None = setting(
        None,
        "Seconds of one run of the module after which it is cut; the rollout has no score.",
        shown="no limit",
        gt=0,
    )
    max_p95_latency_s: float | None = setting(
        None,
        "Most seconds for the 95th percentile of the module's slowest run in a rollout.",
        shown="no limit",
        gt=0,
    )
    max_cost_per_call_usd: float | None = setting(
        None, "Most dollars for the module's calls in one rollout, on average.", shown="no limit", ge=0
    )
    confidence: float = setting(0.95, "How sure it must be that the module keeps its limits.", gt=0, lt=1)


class ConstraintsTable(Table):
    """What the prompt that ships must satisfy."""

    max_prompt_tokens: int | None = setting(
        None,
        "Most tokens of the prompt without the row; longer candidates are rejected unpaid.",
        shown="no limit",
        ge=1,
    )
    max_latency_s: float | None = setting(
        None, "Seconds of model calls after which a rollout is cut; it has no score.", shown="no limit", gt=0
    )
    max_p95_latency_s: float | None = setting(
        None,
        "Most seconds for the 95th percentile of a rollout's latency; shown by the final check (59 rows at 95 %).",
        shown="no limit",
        gt=0,
    )
    max_cost_per_call_usd: float | None = setting(
        None, "Most dollars for one rollout, on average; shown by the final check.", shown="no limit", ge=0
    )
    confidence: float = setting(
        0.95, "How sure it must be that the prompt keeps a limit on latency or cost.", gt=0, lt=1
    )
    modules: dict[str, ModuleConstraintsTable] = setting({}, "Limits of single modules, by module name.")
