#!/usr/bin/env bash
# All tests, in five sessions side by side, as most of them wait: those of pure code, those in a browser, and in three
# parts those with real processes. One part is shown as it goes; of the others, those that failed come last and whole.
set -u
cd "$(dirname "$0")/.."

outputs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$outputs"' EXIT
trouble=(tests/faults tests/guests tests/safety)
engine=(tests/node tests/backends)

declare -A sessions
aside() { # NAME WORD...
    "${@:2}" >"$outputs/$1" 2>&1 &
    sessions[$1]=$!
}
pytest=(.venv/bin/python -m pytest)

aside pure nice -n 5 "${pytest[@]}" -m "not (real or browser)"
aside browser "${pytest[@]}" -m "browser"
aside trouble "${pytest[@]}" -m "real" "${trouble[@]}"
aside engine "${pytest[@]}" -m "real" "${engine[@]}"
others=("${trouble[@]}" "${engine[@]}")
"${pytest[@]}" -m "real and not browser" "${others[@]/#/--ignore=}"
status=$?

failed=()
for name in "${!sessions[@]}"; do
    if wait "${sessions[$name]}"; then
        tail -n 1 "$outputs/$name"
    else
        failed+=("$outputs/$name")
    fi
done
[ ${#failed[@]} = 0 ] && exit "$status"
cat "${failed[@]}"
exit 1
