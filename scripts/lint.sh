#!/usr/bin/env bash
# Runs every check that needs no build, all of them even if one fails, so that one run shows all there is to mend.
set -euo pipefail
cd "$(dirname "$0")/.."

status=0
swift format lint --strict -r --parallel Package.swift Sources Tests Examples Benchmarks || status=1
scripts/check-arrows.sh || status=1
scripts/check-files.sh || status=1
if [ $status -eq 0 ]; then echo "lint: clean"; else echo "lint: failed" >&2; fi
exit $status
