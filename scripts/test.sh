#!/usr/bin/env bash
# All tests, in five sessions side by side, as most of them wait: those of pure code, those in a browser, and in three
# parts those with real processes; the types beside them. One part is shown as it goes; of the others, those that failed
# come last and whole.
set -u
cd "$(dirname "$0")/.."

outputs=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$outputs"' EXIT
# Chromium breaks off what it loads when this host gets an address or loses one, as it does in these tests of faults.
addresses=(tests/faults/test_hosts_pipeline.py tests/faults/test_partitions.py)
trouble=(tests/faults tests/guests)
engine=(tests/node tests/backends tests/safety)

declare -A sessions
aside() { # NAME WORD...
    "${@:2}" >"$outputs/$1" 2>&1 &
    sessions[$1]=$!
}
pytest=(.venv/bin/python -m pytest)

aside pure nice -n 5 "${pytest[@]}" -m "not (real or browser)"
aside types .venv/bin/mypy
aside browser "${pytest[@]}" -m "real" tests/browser "${addresses[@]}"
aside trouble "${pytest[@]}" -m "real" "${trouble[@]}" "${addresses[@]/#/--ignore=}"
aside engine "${pytest[@]}" -m "real" "${engine[@]}"
others=(tests/browser "${trouble[@]}" "${engine[@]}")
"${pytest[@]}" -m "real" tests "${others[@]/#/--ignore=}"
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
