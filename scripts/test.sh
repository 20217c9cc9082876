#!/usr/bin/env bash
# All tests, in three sessions side by side, as most of them wait: those of pure code, those in a browser, and those
# with real processes. The last are shown as they go, the others when they have ended.
set -u
cd "$(dirname "$0")/.."

outputs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$outputs"' EXIT

aside() { # NAME EXPRESSION
    nice .venv/bin/python -m pytest -m "$2" >"$outputs/$1" 2>&1 &
}

aside pure "not (real or browser)"
pure=$!
aside browser "browser"
browser=$!
.venv/bin/python -m pytest -m "real and not browser"
failed=$?
for session in pure browser; do
    wait "${!session}" || failed=1
    cat "$outputs/$session"
done
exit "$failed"
