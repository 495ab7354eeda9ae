#!/usr/bin/env bash
# Builds UndyingServer and runs scripts/chaos.py on it, which see. The last line is `chaos: requests=N refused=0 ...`; exit status 0 only then.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
scripts/install-deps.sh python3
swift build --quiet -c release --package-path Examples --product UndyingServer --disable-build-manifest-caching
exec python3 scripts/chaos.py "$(swift build -c release --package-path Examples --show-bin-path)/UndyingServer"
