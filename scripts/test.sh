#!/usr/bin/env bash
# Builds and runs the tests of the root package, then those of Examples; both, even if the first fails.
# Quiet: what is printed is what failed, the closing line of each test run, and last how many tests were skipped, and why.
set -euo pipefail
cd "$(dirname "$0")/.."

events=$(mktemp)
trap 'rm -f "$events"' EXIT

# tell_skipped NAME: a line for each reason, from the events of the run.
tell_skipped() {
    { grep '"kind":"testSkipped"' "$events" || true; } | { grep -o '"text":"Test [^}]*' || true; } |
        sed -E 's/^.* skipped(: \\"(.*)\\")?".*$/\2/; s/^$/no reason is given/' | sort | uniq -c |
        while read -r count reason; do echo "$1: $count tests skipped: $reason"; done
}

# Without somebody at a terminal, who would see it, tests that hang are ended after so long, and named.
limit=20m
limited=()
[ -t 0 ] || limited=(timeout --kill-after=10 "$limit")

# tell_unfinished NAME: which tests had begun and not ended.
tell_unfinished() {
    echo "$1: the tests had not ended after $limit; these were running:" >&2
    comm -23 <(ids testStarted) <(ids testEnded) | grep / | head -n 40 >&2 || true
}
ids() { { grep "\"kind\":\"$1\"" "$events" || true; } | sed -E 's/^.*"testID":"([^"]*)".*$/\1/; s|\\/|/|g' | sort -u; }

# run_tests NAME PATH
run_tests() {
    local name=$1 path=$2
    echo "== $name: build the tests"
    # Planned anew each time: the plan that Examples keeps does not see that the root package got or lost a file.
    swift build --quiet --build-tests --package-path "$path" --disable-build-manifest-caching || return 1
    # The XCTest half of the runner only reports "Executed 0 tests" where every test is a Swift Testing one.
    local flags=(--quiet --skip-build --package-path "$path")
    if ! grep -rqs 'import XCTest' "$path/Tests"; then flags+=(--disable-xctest); fi
    echo "== $name: run the tests"
    local status=0
    : >"$events"
    "${limited[@]}" swift test "${flags[@]}" --event-stream-output-path "$events" || status=$?
    if [ $status -eq 124 ] || [ $status -eq 137 ]; then tell_unfinished "$name"; fi
    tell_skipped "$name"
    return $status
}

failed=()
run_tests bastion . || failed+=(bastion)
run_tests Examples Examples || failed+=(Examples)
if [ ${#failed[@]} -gt 0 ]; then
    echo "test: failed in ${failed[*]}" >&2
    exit 1
fi
