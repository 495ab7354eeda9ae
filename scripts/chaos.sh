#!/usr/bin/env bash
# Builds UndyingServer and GuardedHummingbird, and runs scripts/chaos.py on the one and scripts/hummingbird.py on the other, which see. Each ends with a
# line of figures, as `chaos: requests=N refused=0 ...`; exit status 0 only if both have passed.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/install-deps.sh python3
for product in UndyingServer GuardedHummingbird; do
    swift build --quiet -c release --package-path Examples --product "$product" --disable-build-manifest-caching
done
folder=$(swift build -c release --package-path Examples --show-bin-path)
status=0
python3 scripts/chaos.py "$folder/UndyingServer" || status=1
python3 scripts/hummingbird.py "$folder/GuardedHummingbird" || status=1
exit $status
