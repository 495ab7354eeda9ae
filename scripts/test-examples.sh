#!/usr/bin/env bash
# Builds the examples that end by themselves, in debug, and runs each: its exit status is 0 only if its result was right.
#
#     scripts/test-examples.sh [NAME...]    these examples (default: all that are listed here)
#
# Each has 60 seconds. What one printed is shown if it failed. The build is kept in Examples/.build, which the tests of Examples use too.
set -euo pipefail
cd "$(dirname "$0")/.."

# The programs of Examples/Package.swift, one a line.
examples=$(sed -n '/^let programs = \[/,/^\]/s/^ *"\(.*\)",$/\1/p' Examples/Package.swift)

if [ $# -eq 0 ]; then
    # shellcheck disable=SC2086 # one word each
    set -- $examples
fi
for name in "$@"; do
    if ! grep -qx -- "$name" <<<"$examples"; then
        echo "no example $name; there are:" $examples >&2
        exit 2
    fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Planned anew each time: the cached plan does not see that the root package got or lost a file.
flags=(--package-path Examples -j 2)
for name in "$@"; do
    swift build "${flags[@]}" --product "$name" --disable-build-manifest-caching >"$log" 2>&1 || {
        cat "$log"
        echo "examples: $name does not build" >&2
        exit 1
    }
done
folder=$(swift build "${flags[@]}" --show-bin-path)
echo "examples: built in ${SECONDS}s"

failed=()
for name in "$@"; do
    status=0
    timeout -k 5 60 "$folder/$name" >"$log" 2>&1 </dev/null || status=$?
    if [ $status -eq 0 ]; then
        echo "ok $name"
    else
        cat "$log"
        echo "FAILED $name: status $status"
        failed+=("$name")
    fi
done

# What a program behind the boundary answers before anything starts: its own arguments, and those of the boundary.
#
#     answers STATUS PATTERN COMMAND...    the command ends with the status, and a line that it prints matches
answers() {
    local expected=$1 pattern=$2 status=0
    shift 2
    timeout -k 5 60 "$@" >"$log" 2>&1 </dev/null || status=$?
    if [ $status -eq "$expected" ] && grep -Eq -- "$pattern" "$log" && ! grep -q "^said" "$log"; then return; fi
    cat "$log"
    echo "FAILED $*: status $status, expected $expected and a line like $pattern"
    failed+=("CommandServer")
}
if [[ " $* " == *" CommandServer "* ]]; then
    server=$folder/CommandServer
    answers 0 "^USAGE: command-server" "$server" --help
    answers 64 "Unknown option '--prt'" "$server" --prt 1
    answers 64 "connections must be at least 1, got 0" "$server" --connections 0
    answers 64 "connections must be at least 1, got 0" env BASTION_BOUNDARY=guarded "$server" --connections 0
    answers 0 "^BASTION_STOP_DEADLINE=30s" "$server" --bastion-help
    answers 0 "in force: 7" env BASTION_WORKERS=7 "$server" --bastion-help --prt 1
    answers 64 "BASTION_WORKERS=none cannot be used; allowed is" env BASTION_WORKERS=none "$server"
    answers 64 "BASTION_BOUNDRY is no option; did you mean BASTION_BOUNDARY" env BASTION_BOUNDRY=guarded "$server" --help
    [[ " ${failed[*]} " == *" CommandServer "* ]] || echo "ok CommandServer: its arguments"
fi

if [ ${#failed[@]} -gt 0 ]; then
    echo "examples: failed: ${failed[*]}" >&2
    exit 1
fi
