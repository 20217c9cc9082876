#!/usr/bin/env bash
# All tests, in four sessions side by side, as most of them wait: those of pure code, those in a browser, and in two
# parts those with real processes. The last are shown as they go, the others when all have ended.
set -u
cd "$(dirname "$0")/.."

outputs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$outputs"' EXIT
trouble=(tests/faults tests/guests tests/safety)

declare -A sessions
aside() { # NAME WORD...
    nice .venv/bin/python -m pytest "${@:2}" >"$outputs/$1" 2>&1 &
    sessions[$1]=$!
}

aside pure -m "not (real or browser)"
aside browser -m "browser"
aside trouble -m "real" "${trouble[@]}"
.venv/bin/python -m pytest -m "real and not browser" "${trouble[@]/#/--ignore=}"
failed=$?
for name in "${!sessions[@]}"; do
    wait "${sessions[$name]}" || failed=1
    cat "$outputs/$name"
done
exit "$failed"
