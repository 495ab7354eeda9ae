#!/usr/bin/env bash
# Puts the licence header (scripts/licence-header.txt) on top of each Swift file that lacks it; in a manifest below the
# `swift-tools-version` line, which has to come first.
#
#     scripts/add-headers.sh                   every Swift file that git tracks or could track
#     scripts/add-headers.sh --check           changes nothing; prints the files that lack it and exits 1 if there are any
#     scripts/add-headers.sh [--check] FILE... these files only
set -euo pipefail
header=$(dirname "$0")/licence-header.txt
header=$(cat "$header")
lines=$(wc -l <<<"$header")

check=false
if [ "${1:-}" = --check ]; then
    check=true
    shift
fi
if [ $# -eq 0 ]; then
    cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"
    mapfile -d '' -t files < <(git ls-files -z -co --exclude-standard -- '*.swift')
    set -- ${files[@]+"${files[@]}"}
fi

# first_line FILE: the number of the line where the header belongs.
first_line() { if head -n 1 "$1" | grep -qE '^(// *swift-tools-version|#!)'; then echo 2; else echo 1; fi; }

lacking=0
for file in "$@"; do
    if [ ! -f "$file" ]; then continue; fi # deleted, and git not told yet
    at=$(first_line "$file")
    if [ "$(sed -n "$at,$((at + lines - 1))p" "$file")" = "$header" ]; then continue; fi
    lacking=$((lacking + 1))
    if $check; then
        echo "$file:$at: no licence header (scripts/add-headers.sh adds it)"
        continue
    fi
    body=$(mktemp)
    {
        if [ "$at" -eq 2 ]; then head -n 1 "$file"; fi
        printf '%s\n\n' "$header"
        tail -n "+$at" "$file" | sed '/./,$!d'
    } >"$body"
    # Written through, not moved over it: keeps the mode of the file.
    cat "$body" >"$file"
    rm "$body"
    echo "$file: header added"
done
if $check && [ $lacking -gt 0 ]; then exit 1; fi
