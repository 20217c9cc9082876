#!/usr/bin/env bash
# Makes .venv and installs handoff_lab into it, editable, with the extras given ("test", "bench", "test,gpu").
# Adds Debian's graphviz, and chromium for the tests, where they are missing and root may; else says how, and goes on
# without.
set -euo pipefail
cd "$(dirname "$0")/.."

extras=${1:-}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-1}  # as pip does

say() { printf 'setup: %s\n' "$*" >&2; }
works() { "$@" >/dev/null 2>&1 </dev/null; }

apt_install() {
    [ "$(id -u)" = 0 ] && works apt-get --version || return 1
    say "installing the Debian package(s) $*"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@"; } >/dev/null </dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if works "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
            echo "$candidate"
            return
        fi
    done
    say "handoff_lab needs Python 3.11 or newer, and ${PYTHON:-python3} is $(${PYTHON:-python3} --version 2>/dev/null || echo not there)"
    say "install a newer one (Debian: apt-get install python3.11 python3.11-venv) or name it: make PYTHON=python3.12 ..."
    return 1
}

make_venv() {
    works uv --version && uv venv --quiet --python "$python" .venv && return
    if ! works "$python" -c 'import ensurepip'; then
        apt_install python3-venv || {
            say "$python cannot make environments; as root: apt-get install python3-venv"
            return 1
        }
    fi
    "$python" -m venv .venv
}

# uv is fast but does not read pip's settings; where it finds no packages, pip may.
install() {
    if works uv --version; then
        uv pip install --quiet --python .venv/bin/python "$@" && return
        say "uv could not install; trying pip"
    fi
    works .venv/bin/python -m pip --version || .venv/bin/python -m ensurepip --upgrade >/dev/null
    if ! works uv --version && works .venv/bin/python -m pip install --quiet uv; then
        .venv/bin/uv pip install --quiet --python .venv/bin/python "$@" && return
        say "uv could not install; trying pip"
    fi
    .venv/bin/python -m pip install --quiet "$@"
}

python=$(find_python)
[ -x .venv/bin/python ] || { say "making .venv with $($python --version)" && make_venv; }
say "installing handoff_lab${extras:+ with $extras}"
install --editable ".${extras:+[$extras]}"

if ! works dot -V && ! apt_install graphviz; then
    say "the dot program is missing (as root: apt-get install graphviz); pictures will be drawn by pygraphviz"
    install "pygraphviz>=2.0" || say "pygraphviz could not be installed either; graphs will be shown as tables"
fi

if [[ ",$extras," == *,test,* ]] && ! works chromium --version && ! apt_install chromium; then
    say "chromium is missing (as root: apt-get install chromium); the tests in a browser will be skipped"
fi
