#!/usr/bin/env bash
# Builds the tests with a sanitizer, in .build-tsan or .build-asan, and runs them. A report is a failure.
#
#     scripts/sanitize.sh thread [FILTER]     ThreadSanitizer: data races, in what is not atomic or not ordered
#     scripts/sanitize.sh address [FILTER]    AddressSanitizer: use after free, overflow; leaks in a few suites
#
# FILTER is a regular expression as for `swift test --filter`; by default all suites but those named below.
# Exit tests run in programs of their own, with the same sanitizer; a report there is a failure of the test.
set -euo pipefail
cd "$(dirname "$0")/.."

case ${1:-} in
thread) kind=thread build=.build-tsan ;;
address) kind=address build=.build-asan ;;
*)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
filter=${2:-}

# Signals are ours: what the tests expect of a trap that is not contained is the signal, not the sanitizer's report.
signals=handle_segv=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:handle_sigtrap=0:handle_abort=0
# The first report ends the program: later ones may be consequences.
# Reports go to files, as what the program of an exit test prints is seen by nobody.
reports=$PWD/$build/reports
rm -rf "$reports"
mkdir -p "$reports"
export TSAN_OPTIONS=$signals:halt_on_error=1:suppressions=$PWD/scripts/tsan-suppressions.txt:log_path=$reports/report:${TSAN_OPTIONS:-}
# A process that trapped leaks by design, and its stack is left without unwinding.
export ASAN_OPTIONS=$signals:detect_leaks=0:detect_stack_use_after_return=0:use_sigaltstack=0:log_path=$reports/report:${ASAN_OPTIONS:-}
# The runtime's own reports of crashes clone the program, which ThreadSanitizer does not survive.
export SWIFT_BACKTRACE=enable=no

flags=(--sanitize="$kind" --scratch-path "$build" --disable-xctest)
echo "== build the tests with the $kind sanitizer"
swift build --quiet --build-tests --sanitize="$kind" --scratch-path "$build" --disable-build-manifest-caching

# Tests that had begun when the output ends: one of them ended the program.
unfinished() { # LOG
    awk '/^◇ Test case / { next }
        /^◇ Test .* started\.$/ { sub(/^◇ Test /, ""); sub(/ started\.$/, ""); running[$0] = 1 }
        /^(✔|✘) Test .* (passed|failed) after / {
            sub(/^(✔|✘) Test /, ""); sub(/ (passed|failed) after .*/, ""); sub(/ with [0-9]+ test cases?$/, ""); delete running[$0]
        }
        END { for (name in running) if (name != "run") print "FAILED or not ended: " name }' "$1"
}

run() {
    echo "== run $*"
    local log=$build/tests.log
    if timeout --kill-after=10 25m swift test "${flags[@]}" --skip-build "$@" >"$log" 2>&1; then
        grep 'Test run with' "$log"
        return
    fi
    cat "$log"
    find "$reports" -type f -exec tail -n +1 {} +
    unfinished "$log"
    return 1
}

if [ -n "$filter" ]; then
    run --filter "$filter"
    exit
fi
# Left out: the models' threads run one at a time by design; topology is pure code, and tests of it read files. Of the boundary, what starts
# many programs that wait for each other runs by itself: beside everything else they would wait for longer than they may.
alone='FortTests\.(Death|CrashReport|ReportFile|FlightRecorder|FortOptions|Heart|Memory|UnderA|Service|Activated|FortEvents)'
alone+='|FortTests\.(LoadShedding|Pressure)'
programs='FortTests\.(Guard|FortSignal|FortStop)'
skipped=(--skip '^ModelTests' --skip '\.Topology' --skip '\.Placement' --skip "$alone")
# Whole programs in other processes, which ThreadSanitizer has looked at.
if [ "$kind" = address ]; then skipped+=(--skip "$programs"); fi
run "${skipped[@]}"
run --filter "$alone"

# Leaks are looked for where nothing traps and nothing has weak references: Swift keeps the pointers to the side tables of
# those shifted, where LeakSanitizer does not find them.
if [ "$kind" = address ]; then
    ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=1 \
        run --filter 'LightProcTests\.(Mailbox|MessageNode|Locked|ProcState)Tests'
fi
