#!/usr/bin/env bash
# Tries the fault model out in every build: debug and release, each with the dynamic and the static standard library.
#
#     scripts/fault-matrix.sh                          every build
#     scripts/fault-matrix.sh release-static ...       these: debug-dynamic debug-static release-dynamic release-static
#
# In each: every kind of trap in every place of a process, and what else the fault model promises (one line each in
# matrix.log); what must not be contained ends the program by its own signal, Swift's backtracer still gets it; and a storm
# of traps, whose memory is held against what is counted as leaked. Builds and logs are kept in
# .build-faults/NAME. STORM=N makes the long storm (release-dynamic) of N traps, the others of a tenth; SEED=S repeats one.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then set -- debug-dynamic debug-static release-dynamic release-static; fi
storm=${STORM:-100000}
backtracers=$(dirname "$(readlink -f "$(command -v swift)")")/../libexec/swift/linux

build() { # NAME
    local flags=(-j 2 --package-path Tests/FaultMatrix --scratch-path ".build-faults/$1" --disable-build-manifest-caching)
    if [[ $1 == release-* ]]; then flags+=(-c release); fi
    if [[ $1 == *-static ]]; then flags+=(--static-swift-stdlib); fi
    mkdir -p ".build-faults/$1"
    swift build "${flags[@]}" >"$folder/build.log" 2>&1 || {
        cat "$folder/build.log"
        return 1
    }
}

complain() {
    echo "FAILED $name: $*"
    failures=$((failures + 1))
}

# Runs the program; sets `status`, and `said` to what it wrote. Who hangs is ended.
run() {
    status=0
    said=$(timeout -k 5 120 "$program" "$@" 2>&1 </dev/null) || status=$?
}

matrix() {
    local status=0
    # The runtime's words about each trap go to a file of their own.
    timeout -k 5 600 "$program" >"$folder/matrix.log" 2>"$folder/matrix.err" </dev/null || status=$?
    if [ $status -ne 0 ]; then
        grep '^FAILED' "$folder/matrix.log" || true
        grep 'not contained' "$folder/matrix.err" || true
        complain "the matrix ended with status $status"
    fi
    echo "$name: matrix: $(tail -n 1 "$folder/matrix.log")"
}

escalations() {
    local case signal words status said count=0
    while read -r case signal words; do
        count=$((count + 1))
        run --escalate "$case"
        if [ $status -ne $((128 + signal)) ]; then complain "$case: status $status, not $((128 + signal)): $said"; fi
        case $words in
        -) ;;
        *) if ! grep -qF "bastion: this trap is not contained: $words" <<<"$said"; then complain "$case: says: $said"; fi ;;
        esac
    done < <("$program" --list-escalations)
    if [ $count -eq 0 ]; then complain "there are no escalations"; fi
    echo "$name: $count escalations"
}

# A stack that is used up just there: with less room it is contained, in the dangerous stretch it ends the program, with
# more nothing happens. Whatever of these it is, nobody hangs, and each stretch is found.
brinks() {
    local case words room status said found count=0
    while read -r case words; do
        found=false
        for room in 16 32 48 64 96 128 160 192 256 384 512 768 1024 2048 4096; do
            run --brink "$case" $room
            count=$((count + 1))
            if [ $status -eq 139 ] && grep -qF "bastion: this trap is not contained" <<<"$said"; then
                if grep -qF -e "$words" <<<"$said"; then found=true; fi
                if [ "$words" = - ]; then complain "$case with $room bytes is not contained: $said"; fi
            elif [ $status -ne 0 ]; then
                complain "$case with $room bytes: status $status: $said"
            elif [ "$words" = - ] && grep -q 'stack overflow' <<<"$said"; then
                found=true
            fi
        done
        if ! $found; then complain "$case: no stack was used up there"; fi
    done < <("$program" --list-brinks)
    echo "$name: $count stacks used up"
}

# What is not contained reaches who had the signal before us.
backtracer() {
    local tracer=$backtracers/swift-backtrace case status said
    if [[ $name == *-static ]]; then tracer+=-static; fi
    if [ ! -x "$tracer" ]; then
        echo "$name: there is no $tracer: not checked that it gets what is not contained"
        return
    fi
    local settings=enable=yes,color=no,interactive=no,symbolicate=off,threads=crashed,images=none,swift-backtrace=$tracer
    for case in wildWrite global strangeThread; do
        SWIFT_BACKTRACE=$settings run --escalate $case
        if [ $status -lt 129 ]; then complain "$case under the backtracer: status $status"; fi
        if ! grep -qE 'Program crashed|Fatal error|crashed:' <<<"$said" || ! grep -q 'Backtrace took' <<<"$said"; then
            complain "$case: the backtracer did not get it: $said"
        fi
    done
    echo "$name: the backtracer gets what is not contained"
}

storm() { # TRAPS
    local status=0
    timeout -k 5 900 "$program" --storm "$1" ${SEED:+--seed "$SEED"} >"$folder/storm.log" 2>"$folder/storm.err" \
        </dev/null || status=$?
    sed "s/^/$name: /" "$folder/storm.log"
    if [ $status -ne 0 ]; then complain "the storm ended with status $status"; fi
    rm -f "$folder/storm.err"
}

failures=0
for name in "$@"; do
    folder=.build-faults/$name
    mkdir -p "$folder"
    SECONDS=0
    if ! build "$name"; then
        complain "does not build"
        continue
    fi
    echo "$name: built in ${SECONDS}s"
    SECONDS=0
    program=$folder/${name%-*}/fault-matrix
    # Off but where it is asked for: it takes seconds for each program that ends.
    export SWIFT_BACKTRACE=enable=no
    matrix
    escalations
    brinks
    backtracer
    if [ "$name" = release-dynamic ]; then storm "$storm"; else storm $((storm / 10)); fi
    echo "$name: ran in ${SECONDS}s"
done
echo "fault-matrix: $failures failed"
[ $failures -eq 0 ]
