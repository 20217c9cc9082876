#!/usr/bin/env bash
# All tests: those of pure code run beside those with real processes and browsers, which mostly wait.
set -u
cd "$(dirname "$0")/.."

pure_output=$(mktemp)
nice .venv/bin/python -m pytest -m "not (real or browser)" >"$pure_output" 2>&1 &
pure=$!
trap 'kill "$pure" 2>/dev/null; rm -f "$pure_output"' EXIT

.venv/bin/python -m pytest -m "real or browser"
failed=$?
wait "$pure"
pure_failed=$?
cat "$pure_output"
exit $((failed || pure_failed))
