#!/usr/bin/env bash
# Builds and runs the tests of the root package, then those of Examples; both, even if the first fails.
# Quiet: what is printed is what failed and, last, the closing line of each test run.
set -euo pipefail
cd "$(dirname "$0")/.."

# run_tests NAME PATH [ARGUMENTS]
run_tests() {
    local name=$1 path=$2
    echo "== $name: build the tests"
    # Planned anew each time: the plan that Examples keeps does not see that the root package got or lost a file.
    swift build --quiet --build-tests --package-path "$path" --disable-build-manifest-caching || return 1
    # The XCTest half of the runner only reports "Executed 0 tests" where every test is a Swift Testing one.
    local flags=(--quiet --skip-build --package-path "$path")
    if ! grep -rqs 'import XCTest' "$path/Tests"; then flags+=(--disable-xctest); fi
    echo "== $name: run the tests"
    swift test "${flags[@]}"
}

failed=()
run_tests bastion . || failed+=(bastion)
run_tests Examples Examples || failed+=(Examples)
if [ ${#failed[@]} -gt 0 ]; then
    echo "test: failed in ${failed[*]}" >&2
    exit 1
fi
