#!/usr/bin/env bash
# Instructions an operation, counted by callgrind: the same on a busy machine and on an idle one.
#
#     scripts/bench-instructions.sh [NAME...]        scenarios of `bench`; by default those of single messages and processes
#     FUNCTIONS=10 scripts/bench-instructions.sh ... also lists the functions with the most, of the larger run
#
# Each scenario is run with two numbers of operations; what is printed is the difference, so that what is done once does not
# count. One worker. The binary is stripped first: valgrind cannot read the debug information of Swift 6.3.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
    set -- floor_ping_pong ping_pong floor_counting counting floor_spawn spawn ping_pong_async spawn_async ask
fi
command -v valgrind >/dev/null || {
    echo "bench-instructions: valgrind is not installed (Debian: apt-get install valgrind)" >&2
    exit 69
}
small=${OPERATIONS:-20000}
large=$((3 * small))

swift build --quiet -c release --disable-build-manifest-caching --package-path Benchmarks --product bench
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# Symbols of functions stay, for the list of functions.
strip --strip-debug -o "$folder/bench" "$(swift build -c release --package-path Benchmarks --show-bin-path)/bench"

count() { # NAME OPERATIONS
    valgrind --tool=callgrind --callgrind-out-file="$folder/$1.$2" \
        "$folder/bench" --workers 1 --runs 1 --operations "$2" "$1" >"$folder/log" 2>&1 || {
        cat "$folder/log" >&2
        return 1
    }
    # bench runs each scenario twice: once to warm up.
    awk '/Collected :/ { print $4; found = 1 } END { exit !found }' "$folder/log"
}

printf '%-20s %14s\n' scenario 'instructions'
for name in "$@"; do
    few=$(count "$name" "$small")
    many=$(count "$name" "$large")
    awk -v name="$name" -v few="$few" -v many="$many" -v operations=$((2 * (large - small))) \
        'BEGIN { printf "%-20s %14.1f\n", name, (many - few) / operations }'
    if [ "${FUNCTIONS:-0}" -gt 0 ]; then
        # Reads to the end: a pipe that closes early is an error here.
        callgrind_annotate "$folder/$name.$large" 2>/dev/null |
            awk -v most="$((FUNCTIONS + 1))" '/^ *[0-9,]+ \(/ && ++count <= most' |
            swift demangle --compact --simplified | cut -c 1-150
    fi
done
