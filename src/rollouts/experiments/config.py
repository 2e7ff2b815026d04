"""The job file: the `[prompt_learning]` table and its search settings.

`rollouts.experiments.loading` reads files into these models; `config_convert` turns them into plain values.
"""

from __future__ import annotations

from typing import Literal

from rollouts.experiments import config_compat as compat
from rollouts.experiments.config_base import Parts, Table, setting
from rollouts.experiments.config_gepa import GepaTable
from rollouts.experiments.config_limits import ConstraintsTable, TerminationTable
from rollouts.experiments.config_programs import EnvironmentTable, ProgramTable
from rollouts.experiments.config_rmipro import RmiproTable
from rollouts.experiments.config_tables import (
    DatasetTable,
    InitialPromptTable,
    PolicyTable,
    ProposerTable,
    ScoreTable,
)
from rollouts.integrations.tracking.registry import TrackerName


class MiproTable(Table):
    """The MIPRO search: instructions and demonstrations, chosen together by Bayesian optimization."""

    no_effect = compat.MIPRO
    moved = compat.MIPRO_MOVED
    num_iterations: int = setting(
        10,
        "Size of the search: trials with `tpe` and `random`. A race (`racing`, `successive_*`) may take as many "
        "rollouts as these: this x `minibatch_size`, and 2 x `top_k` for each validation row.",
        aliases=("num_trials",),
        ge=1,
    )
    num_candidates: int | None = setting(
        None,
        "Instructions to propose in all, beside your own.",
        shown="`num_bootstrap_seeds` x `num_instructions_per_module`",
        ge=0,
    )
    num_bootstrap_seeds: int = setting(
        3, "Bootstrap samples of the training rows that proposals are grounded in.", ge=1
    )
    num_instructions_per_module: int = setting(4, "Instructions proposed for each bootstrap sample.", ge=1)
    num_demos: int | None = setting(
        None,
        "Most demonstrations of each kind in a prompt: from good answers, and from labelled rows; 0 for none.",
        shown="2, or the larger of the two limits below where one is set",
        ge=0,
    )
    max_bootstrapped_demos: int | None = setting(
        None, "Most demonstrations taken from the task model's own good answers.", shown="`num_demos`", ge=0
    )
    max_labeled_demos: int | None = setting(
        None, "Most demonstrations taken from labelled rows.", shown="`num_demos`", ge=0
    )
    num_demo_sets: int = setting(
        32, "Demonstration sets to choose from, beside none and your own.", aliases=("max_demo_sets",), ge=1
    )
    bootstrap_threshold: float = setting(
        1.0,
        "Least score of a rollout, or of a module by its own score, whose answer may become a demonstration.",
        aliases=("few_shot_score_threshold",),
        ge=0,
        le=1,
    )
    minibatch_size: int = setting(
        35,
        "Validation rows that one trial of `tpe` or `random` is scored on; fewer under a small budget.",
        aliases=("batch_size",),
        ge=1,
    )
    full_eval_every: int = setting(
        0,
        "With `tpe` and `random`: trials between two evaluations of the leader on all validation rows; 0 for only at "
        "the end.",
        aliases=("full_eval_every_k",),
        ge=0,
    )
    top_k: int = setting(2, "Candidates that the race of the leaders at the end narrows the field to.", ge=1)
    optimize_instructions: bool = setting(True, "Search over instructions.")
    optimize_demos: bool | None = setting(None, "Search over demonstrations.", shown="`true`, unless `num_demos` is 0")
    proposal_rounds: int = setting(
        2, "Times that instructions are proposed; later rounds see what earlier ones scored.", ge=1
    )
    max_instruction_tokens: int = setting(600, "Most tokens of a proposed instruction; longer ones are rejected.", ge=1)
    selector: Literal["racing", "tpe", "successive_halving", "successive_rejects", "random"] = setting(
        "racing", "Rule that chooses what to try next on which rows; see the page on selection."
    )
    optimize: Parts = setting(
        ("system",), 'Texts that are rewritten: "system" (the instruction), "user_template".', min_length=1
    )
    mode: Literal["offline", "online"] = setting("offline", "Only `offline` works here.")


class ExecutionTable(Table):
    """How the work is run."""

    slots: int | None = setting(None, "Rollouts in flight at once.", aliases=("max_concurrent",), shown="16", ge=1)
    fail_fast: bool = setting(
        False, "A call that failed is not sent again, also not one that was asked to come later (429)."
    )
    rollout_timeout_s: float | None = setting(
        None, "Seconds after which a whole rollout is given up, retries and all.", shown="no limit", gt=0
    )
    track: TrackerName | None = setting(
        None,
        "Tracker that is told of the run: `mlflow` or `wandb` (extras of the same names), with its own variables for "
        "address and login.",
        shown="none",
    )
    track_project: str = setting("rollouts", "Experiment of MLflow, or project of W&B, for `track`.", min_length=1)
    store: str | None = setting(
        None,
        "Where results are kept: an SQLite file, relative to the working directory, or a database URL, no password.",
        shown="`ROLLOUTS_STORE`, else `.rollouts/rollouts.db`",
        min_length=1,
    )


class JobConfig(Table):
    """One optimization job."""

    no_effect = compat.JOB
    moved = compat.JOB_MOVED
    algorithm: Literal["mipro", "gepa", "rmipro"] = setting("mipro", "Search algorithm.")
    name: str | None = setting(None, "Name of the run in lists and reports.", shown="the file's name", min_length=1)
    seed: int = setting(0, "Seed of every random choice.", aliases=("rng_seed",), ge=0)
    description: str = setting("", "What the prompt is for, in a sentence; the proposer reads it.")
    results_folder: str | None = setting(
        None,
        "Folder for the results, relative to the working directory.",
        shown="`results/` and the run's name",
        min_length=1,
    )
    task_app_url: str | None = setting(
        None,
        "Address of a task app; `rollouts train` and the service use it. `rollouts optimize` takes a data set instead.",
        aliases=("localapi_url",),
    )
    dataset: DatasetTable | None = setting(None, "The data set.")
    initial_prompt: InitialPromptTable = setting(InitialPromptTable(), "The starting prompt.")
    program: ProgramTable | None = setting(None, "The program to start from, instead of a prompt.")
    environment: EnvironmentTable | None = setting(None, "The tools of the task.")
    score: ScoreTable = setting(ScoreTable(), "The score.")
    policy: PolicyTable = setting(PolicyTable(), "The task model.")
    proposer: ProposerTable = setting(ProposerTable(), "The model that writes instructions.")
    mipro: MiproTable = setting(MiproTable(), "The MIPRO search.")
    gepa: GepaTable = setting(GepaTable(), "The GEPA search.")
    rmipro: RmiproTable = setting(RmiproTable(), "The r-MIPRO search.")
    termination_config: TerminationTable = setting(TerminationTable(), "Caps and stopping rules.")
    constraints: ConstraintsTable = setting(ConstraintsTable(), "Limits of the shipped prompt.")
    execution: ExecutionTable = setting(ExecutionTable(), "How the work is run.")


class ConfigFile(Table):
    """A whole job file."""

    no_effect = compat.FILE
    prompt_learning: JobConfig = setting(JobConfig(), "The job.", aliases=("policy_optimization",))
