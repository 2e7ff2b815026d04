#!/usr/bin/env bash
# MIPRO step by step: a service, a task app, a job, and its result. See README.md.
ALGORITHM=mipro
APP_PORT=8002
BUDGET=100

about_search() {
    cat <<'TEXT'
MIPRO first collects what a prompt can be made of: instructions that a model writes, and sets of demonstrations from the
training samples. Then it searches for the best pair of the two. Candidates that look bad on a few samples get no more of
them; the leaders meet on all. The winner is tested against the prompt you had, on samples that the search never saw.
TEXT
}

search_settings() {
    cat <<'TOML'
[prompt_learning.mipro]
num_iterations = 10  # size of the search; the budget may pay for less
top_k = 2            # finalists that it keeps rollouts for

num_bootstrap_seeds = 3          # groups of training samples that instructions are written from
num_instructions_per_module = 4  # for each of them

num_demos = 2  # of each kind: good answers of your own prompt, and labelled samples
optimize_instructions = true
optimize_demos = true
TOML
}

# shellcheck source=walkthroughs/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
walk "$@"
