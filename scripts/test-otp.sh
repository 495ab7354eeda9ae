#!/usr/bin/env bash
# Compares our supervisors with OTP's, byte by byte: random scenarios are run by both (Tests/OTPConformance/README.md).
#
#     scripts/test-otp.sh               new scenarios, of two kinds
#     scripts/test-otp.sh FILE...       these scenarios
#
# COUNT scenarios of the plain kind (2000) and EXTENDED of the other (a quarter of COUNT), drawn from SEED (a new one each time, printed).
# Of what differs the first scenario is shown, with both traces; KEEP=FOLDER keeps everything there. OTP's side takes the time that scenarios of the other kind really sleep.
set -euo pipefail
cd "$(dirname "$0")/.."

seed=${SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
count=${COUNT:-2000}
extended=${EXTENDED:-$((count / 4))}
oracle=Tests/OTPConformance/otp_oracle.escript
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [ $# -eq 0 ]; then
    echo "test-otp: $count scenarios and $extended extended ones; again with SEED=$seed COUNT=$count EXTENDED=$extended make test-otp"
    "$oracle" gen "$seed" "$count" >"$folder/plain"
    "$oracle" gen-extended "$seed" "$extended" >"$folder/extended"
    set -- "$folder/plain" "$folder/extended"
fi

swift build -c release -j 2 --product otp-conformance >"$folder/build.log" 2>&1 || {
    cat "$folder/build.log"
    exit 1
}
ours=$(swift build -c release --show-bin-path)/otp-conformance

# part N FILE: the N-th scenario, or trace, of a file.
part() { awk -v number="$1" '/^scenario / { seen++ } seen == number' "$2"; }

# What ends with an error has printed what came before: the comparison shows where that was.
status=0
for scenarios in "$@"; do
    name=$(basename "$scenarios")
    started=$SECONDS
    "$oracle" run <"$scenarios" >"$folder/otp" || { echo "test-otp: $name: OTP's side failed"; exit 1; }
    seconds=$((SECONDS - started))
    "$ours" <"$scenarios" >"$folder/ours" || { echo "test-otp: $name: ours ended with status $?"; status=1; }
    # The numbers of the scenarios whose traces differ.
    awk '
        FNR == 1 { file++; number = 0 }
        /^scenario / { number++ }
        { trace[file, number] = trace[file, number] $0 "\n" }
        number > last { last = number }
        END { for (i = 1; i <= last; i++) if (trace[1, i] != trace[2, i]) print i }' "$folder/otp" "$folder/ours" >"$folder/differing"
    all=$(grep -c '^scenario ' "$scenarios" || true)
    differing=$(wc -l <"$folder/differing")
    echo "test-otp: $name: $all scenarios, $differing differ (OTP took ${seconds}s)"
    if [ "$differing" -eq 0 ]; then continue; fi
    status=1
    first=$(head -n 1 "$folder/differing")
    part "$first" "$scenarios" | tee "$folder/scenario"
    part "$first" "$folder/otp" >"$folder/otp.part"
    part "$first" "$folder/ours" >"$folder/ours.part"
    diff -U 6 --label otp --label ours "$folder/otp.part" "$folder/ours.part" | head -n 80 || true
    echo "test-otp: that is number $first of $name; the others: $(sed 1d "$folder/differing" | head -n 20 | tr '\n' ' ')"
    if [ -n "${KEEP:-}" ]; then
        mkdir -p "$KEEP"
        cp "$scenarios" "$KEEP/$name.scenarios"
        cp "$folder/otp" "$KEEP/$name.otp"
        cp "$folder/ours" "$KEEP/$name.ours"
        cp "$folder/differing" "$KEEP/$name.differing"
    fi
done
if [ $status -ne 0 ] && [ "$1" = "$folder/plain" ]; then
    echo "test-otp: again with SEED=$seed COUNT=$count EXTENDED=$extended make test-otp" >&2
fi
exit $status
