"""Keys of other tools' job files that are accepted without effect, each with the reason that the user is told.

They come from the `prompt_learning` files of the synth-ai SDK (0.4 to 0.7), so that its walkthroughs load here.
"""

from __future__ import annotations

TASK_APP = "it belongs to a task app, which comes with the service"
SEEDS = "rows are taken by `dataset.train`, `.val` and `.test`, or by number as in `dataset.train_rows`"
MODULES = "a program of several modules is named in [prompt_learning.program]"
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
    "modules": MODULES,
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

GEPA = {
    "env_name": TASK_APP,
    "env_config": TASK_APP,
    "proposer_type": "the reflecting model is set in [prompt_learning.proposer]",
    "proposer_effort": "`generations` and `children_per_generation` say how much is proposed",
    "proposer_output_tokens": "set `proposer.max_completion_tokens`",
    "metaprompt": META,
    "modules": MODULES,
    "verifier": JUDGE,
    "judge": JUDGE,
    "proxy_models": PROXY,
    "adaptive_pool": "a child is compared with its parent on as many rows as it takes",
    "adaptive_batch": "a child is compared with its parent on as many rows as it takes; set `minibatch_size`",
    "unified_optimization": "set `optimize_demos` to change texts and demonstrations together",
}

GEPA_MOVED = {
    "rng_seed": "seed",
    "rollout_budget": "termination_config.budget",
    "max_concurrent": "execution.slots",
    "max_concurrent_rollouts": "execution.slots",
    "max_spend_usd": "termination_config.max_cost_usd",
    "max_token_limit": "constraints.max_prompt_tokens",
    "target_score": "termination_config.target_score",
    "patience": "termination_config.patience",
}

GEPA_ROLLOUT_MOVED = {
    "budget": "termination_config.budget",
    "max_concurrent": "execution.slots",
    "minibatch_size": "gepa.minibatch_size",
}

GEPA_EVALUATION = {
    "validation_pool": "the rows of a split are named one by one",
    "validation_top_k": "`elite_size` candidates meet in the race at the end",
}

GEPA_EVALUATION_MOVED = {
    "seeds": "dataset.train_rows",
    "train_seeds": "dataset.train_rows",
    "val_seeds": "dataset.val_rows",
    "validation_seeds": "dataset.val_rows",
    "test_seeds": "dataset.test_rows",
    "test_pool": "dataset.test_rows",
}

GEPA_MUTATION = {
    "prompt": META,
    "llm_inference_url": "set `proposer.base_url`, without the route",
}

GEPA_MUTATION_MOVED = {
    "rate": "gepa.mutation_rate",
    "llm_model": "proposer.model",
    "llm_provider": "proposer.provider",
}

GEPA_POPULATION = {"selection_pressure": "parents are drawn by how many rows they are best on; set `gepa.selection`"}

GEPA_POPULATION_MOVED = {
    "initial_size": "gepa.population_size",
    "num_generations": "gepa.generations",
    "children_per_generation": "gepa.children_per_generation",
    "crossover_rate": "gepa.crossover_rate",
    "patience_generations": "termination_config.patience",
}

GEPA_ARCHIVE = {
    "size": "all candidates are kept; set `gepa.population_size` for those that may become parents",
    "pareto_set_size": "the front is taken over all validation rows",
    "pareto_eps": "scores are compared as they are",
    "feedback_fraction": "rewrites are made from training rows, the front from validation rows",
}

GEPA_TOKEN = {
    "counting_model": "tokens are counted by the endpoint's own client",
    "enforce_pattern_limit": "limits are always enforced",
}

GEPA_TOKEN_MOVED = {
    "max_limit": "constraints.max_prompt_tokens",
    "max_spend_usd": "termination_config.max_cost_usd",
}

JOB_MOVED = {name: target for name, target in MIPRO_MOVED.items() if name.startswith("meta_model")}

TERMINATION = {
    "pessimism_enabled": "the worst case of every call is always reserved before it leaves",
    "max_category_costs_usd": "one cap covers all spending; set `max_cost_usd`",
}
