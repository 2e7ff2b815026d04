#!/usr/bin/env bash
# GEPA step by step: a service, a task app, a job, and its result. See README.md.
ALGORITHM=gepa
APP_PORT=8001
BUDGET=300

about_search() {
    cat <<'TEXT'
GEPA rewrites the prompt: a model reads what went wrong on a few samples and proposes a better text. A rewrite that beats
its parent on validation samples joins the population, and the next generation descends from those that are best on some
sample. The winner is tested against the prompt you had, on samples that the search never saw.
TEXT
}

search_settings() {
    cat <<'TOML'
[prompt_learning.gepa]
population_size = 4
num_generations = 3
mutation_rate = 0.3
crossover_rate = 0.5
elite_count = 1
optimize_demos = true  # not the texts alone: a weak model follows demonstrations, and hardly an instruction
TOML
}

# shellcheck source=walkthroughs/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
walk "$@"
