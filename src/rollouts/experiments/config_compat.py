"""Keys of other tools' job files that are accepted without effect, each with the reason that the user is told.

They come from the `prompt_learning` files of the synth-ai SDK (0.4 to 0.7), so that its walkthroughs load here.
"""

from __future__ import annotations

TASK_APP = "it belongs to a task app, which comes with the service"
SEEDS = "rows are taken by `dataset.train`, `.val` and `.test`, shuffled and stratified, not by number"
PROXY = "there are no proxy models here"
SPEC = "there are no task specifications here: say it in `initial_prompt.system`"
TRACE = "it belongs to the hosted service"
ONLINE = "it belongs to online mode, which comes with the service"
JUDGE = "a judge is set in [prompt_learning.score.judge]"
TPE = "the selector needs no tuning of this kind"
META = "proposals are grounded in data, history and rejected texts without further settings"
KEY = "keys belong in the environment or .env; take it out of the file"
FILE = {"display": "what is shown is chosen on the command line"}

OTHER_NAMES = {"google": "gemini"}
"""Providers by the names that other tools give them -> ours."""

SEED_POOLS = dict.fromkeys(
    (
        "bootstrap_train_seeds",
        "online_pool",
        "test_pool",
        "reference_pool",
        "val_seeds",
        "train_seeds",
        "evaluation_seeds",
        "seeds",
    ),
    SEEDS,
)

JOB = {
    **SEED_POOLS,
    "task_app_id": TASK_APP,
    "task_app_api_key": KEY,
    "env_name": TASK_APP,
    "env_config": TASK_APP,
    "env_file_path": "the .env file of the working directory is read",
    "judge": JUDGE,
    "verifier": JUDGE,
    "proxy_models": PROXY,
    "free_tier": TRACE,
    "use_byok": TRACE,
    "auto_discover_patterns": TRACE,
    "gepa": "the algorithm is mipro",
}

INITIAL_PROMPT = {
    "id": "prompts are named by their content",
    "name": "prompts are named by their content",
}

POLICY = {
    "inference_mode": "the provider is called directly",
    "policy_name": "prompts are named by their content",
    "config": "provider fields go into `extra`",
    "context_override": TASK_APP,
}

PROPOSER = {
    **POLICY,
    "mode": "`mipro.optimize_instructions` and `mipro.optimize_demos` say what is proposed",
    "inference_url": "set `base_url`, without the route",
    "generate_at_iterations": META,
    "instructions_per_batch": META,
}

MIPRO = {
    **SEED_POOLS,
    "env_name": TASK_APP,
    "env_config": TASK_APP,
    "num_evaluations_per_iteration": "set `minibatch_size`",
    "results_file": "results go to `results_folder`",
    "policy_config": "the task model is set in [prompt_learning.policy]",
    "meta": "the proposer is set in [prompt_learning.proposer]",
    "modules": "a job file describes one module; programs of several are built in Python",
    "proposer_effort": "`num_candidates` and `proposal_rounds` say how much is proposed",
    "proposer_output_tokens": "set `proposer.max_completion_tokens`",
    "max_token_limit": "set `constraints.max_prompt_tokens`",
    "token_counting_model": "tokens are counted by the endpoint's own client",
    "enforce_token_limit": "limits are always enforced",
    "tpe": TPE,
    "demo": "set `num_demos` and `num_demo_sets`",
    "grounding": META,
    "meta_update": META,
    "judge": JUDGE,
    "proxy_models": PROXY,
    "adaptive_pool": "the selector chooses the examples",
    "spec_path": SPEC,
    "spec_max_tokens": SPEC,
    "spec_include_examples": SPEC,
    "spec_priority_threshold": SPEC,
    "metaprompt": META,
    "min_bootstrap_demos": "labelled rows stand in where good answers are few",
    "max_demo_set_size": "set `num_demos`",
    "max_instruction_sets": "set `num_candidates`",
    "max_instructions": "set `num_candidates`",
    "instructions_per_batch": META,
    "duplicate_retry_limit": "duplicates are dropped",
    "generate_at_iterations": META,
    "online_proposer_mode": ONLINE,
    "online_proposer_min_rollouts": ONLINE,
    "online_rollouts_per_candidate": ONLINE,
    "system_id": ONLINE,
    "system_name": ONLINE,
}

MIPRO_MOVED = {
    "max_concurrent": "execution.slots",
    "max_wall_clock_seconds": "termination_config.max_time_seconds",
    "max_total_tokens": "termination_config.max_tokens",
    "max_spend_usd": "termination_config.max_cost_usd",
    "max_prompt_tokens": "constraints.max_prompt_tokens",
    "proposer": "proposer",
    "meta_model": "proposer.model",
    "meta_model_provider": "proposer.provider",
    "meta_model_temperature": "proposer.temperature",
    "meta_model_max_tokens": "proposer.max_completion_tokens",
}

JOB_MOVED = {name: target for name, target in MIPRO_MOVED.items() if name.startswith("meta_model")}

TERMINATION = {
    "pessimism_enabled": "the worst case of every call is always reserved before it leaves",
    "max_category_costs_usd": "one cap covers all spending; set `max_cost_usd`",
}
