#!/usr/bin/env bash
# Checks the files themselves: no path of somebody's machine, no Swift or C file in Sources above 500 lines, no
# resolved versions and no build products in git, the licence header on every Swift file. And the Swift code in
# docs/TESTING.md is that of the consumer that CI builds and runs, but for the indentation.
#
#     scripts/check-files.sh [ROOT]        checks the git checkout at ROOT (default: this repository)
#     scripts/check-files.sh --self-test   plants each kind of violation in a copy and checks that it is found
#
# Prints `file:line: message` for each violation and exits 1 if there is one. Looks at what git tracks and at new files
# that it does not ignore, so that a violation shows before it is committed.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
limit=500

# Absolute paths into the trees where people keep their work. A path that goes on from something else (a URL, a
# variable, a parent folder) is none. A folder of the temporary tree counts too, except in scripts that make it with mktemp.
before='(^|[^]A-Za-z0-9_.~/})*+-]|file://)'
machine="$before/(home|root|work|opt)/"
temporary="$before/tmp/[A-Za-z0-9_.-]+/"

listed() { git -C "$1" ls-files -z -co --exclude-standard "${@:2}"; }

check_paths() {
    local root=$1 file
    while IFS= read -r -d '' file; do
        if [ ! -f "$root/$file" ] || [ -L "$root/$file" ]; then continue; fi
        local pattern="$machine|$temporary"
        case $file in
        scripts/* | .ci/*) if grep -q mktemp "$root/$file"; then pattern=$machine; fi ;;
        esac
        (grep -InE -- "$pattern" "$root/$file" || true) |
            awk -v file="$file" -F: '{ print file ":" $1 ": the path of a machine:" substr($0, length($1) + 2) }'
    done < <(listed "$root")
}

check_sizes() {
    local root=$1 file lines
    while IFS= read -r -d '' file; do
        if [ ! -f "$root/$file" ]; then continue; fi
        lines=$(wc -l <"$root/$file")
        if [ "$lines" -gt $limit ]; then echo "$file:$limit: $lines lines; split it, the limit is $limit"; fi
    done < <(listed "$1" -- Sources)
}

check_products() {
    git -C "$1" ls-files -c | awk '
        /(^|\/)Package\.resolved$/ { print $0 ":1: resolved versions are not tracked: this is a library" }
        /(^|\/)\.(build[^\/]*|swiftpm)\// { print $0 ":1: build products are not tracked" }'
}

check_headers() {
    local files
    mapfile -d '' -t files < <(listed "$1" -- '*.swift')
    if [ ${#files[@]} -gt 0 ]; then (cd "$1" && "$here/scripts/add-headers.sh" --check "${files[@]}") || true; fi
}

check_examples() {
    local root=$1 consumer=Tests/Consumers/TestKitConsumer
    if [ ! -f "$root/docs/TESTING.md" ]; then return; fi
    {
        listed "$root" -- "$consumer/*.swift" | (cd "$root" && xargs -0 -r cat)
        echo '----'
        cat "$root/docs/TESTING.md"
    } | awk '
        { line = $0; gsub(/^[ \t]+|[ \t]+$/, "", line) }
        $0 == "----" && !isDocument { isDocument = 1; next }
        !isDocument { if (line != "") code = code "\n" line; next }
        { number++ }
        /^```/ {
            if (isSwift && index(code "\n", block "\n") == 0)
                print "docs/TESTING.md:" start ": this code is not in '"$consumer"'"
            isSwift = /^```swift/
            block = ""
            start = number
            next
        }
        isSwift && line != "" { block = block "\n" line }'
}

check() {
    local root=$1 found
    found=$(check_paths "$root"; check_sizes "$root"; check_products "$root"; check_headers "$root"; check_examples "$root")
    if [ -n "$found" ]; then
        echo "$found"
        return 1
    fi
}

self_test() {
    local tree header failures=0 cases=0
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    tree=$scratch/tree
    header=$(cat "$here/scripts/licence-header.txt")

    fresh() {
        rm -rf "$tree"
        mkdir -p "$tree/Sources" "$tree/scripts"
        git -c init.defaultBranch=main init -q "$tree"
        git -C "$tree" config core.excludesFile /dev/null # not what this machine ignores
        echo '.build*/' >"$tree/.gitignore"
        printf '%s\n' '// swift-tools-version: 6.2' "$header" '' 'import PackageDescription' >"$tree/Package.swift"
        printf '%s\n' "$header" '' 'let one = 1' >"$tree/Sources/One.swift"
        # shellcheck disable=SC2016
        printf '%s\n' 'd=$(mktemp -d)' "ls /""tmp/probe/x" '"$HERE/work/"' 'https://example.com/home/' '../root/' '${X}/opt/' \
            >"$tree/scripts/a.sh"
    }
    # found EXPECTED: the check reports one violation, and its line starts with EXPECTED.
    found() {
        local output
        cases=$((cases + 1))
        git -C "$tree" add -A
        if output=$(check "$tree"); then
            echo "self-test: not found: $1"
        elif [ "$(wc -l <<<"$output")" -ne 1 ] || [ "${output#"$1"}" = "$output" ]; then
            printf 'self-test: expected one "%s...", got:\n%s\n' "$1" "$output"
        else
            return 0
        fi
        failures=$((failures + 1))
    }

    fresh
    cases=$((cases + 1))
    if ! check "$tree"; then
        echo "self-test: a clean tree is reported"
        failures=$((failures + 1))
    fi

    local path
    for path in home root work opt tmp/probe; do
        fresh
        echo "see /$path/thing" >"$tree/README.md"
        found 'README.md:1: the path of a machine'
        fresh
        printf '\n%s\n' "let folder = \"/$path/thing\"" >>"$tree/Sources/One.swift"
        found 'Sources/One.swift:7: the path of a machine'
    done
    fresh
    echo "file:///""home/somebody" >"$tree/README.md"
    found 'README.md:1: the path of a machine'
    fresh
    echo "cd /""root/" >>"$tree/scripts/a.sh"
    found 'scripts/a.sh:7: the path of a machine'
    fresh
    echo "ls /""tmp/probe/" >"$tree/scripts/b.sh"
    found 'scripts/b.sh:1: the path of a machine'
    fresh
    yes '//' | head -n 500 >>"$tree/Sources/One.swift" || true
    found 'Sources/One.swift:500: 505 lines'
    fresh
    echo '{}' >"$tree/Package.resolved"
    found 'Package.resolved:1: resolved versions'
    fresh
    mkdir -p "$tree/Examples/.build/debug" && : >"$tree/Examples/.build/debug/a.o"
    git -C "$tree" add -f Examples/.build
    found 'Examples/.build/debug/a.o:1: build products'
    fresh
    echo 'let two = 2' >"$tree/Sources/Two.swift"
    found 'Sources/Two.swift:1: no licence header'
    fresh
    sed -i 's/Apache License v2.0 or //' "$tree/Sources/One.swift"
    found 'Sources/One.swift:1: no licence header'
    fresh
    printf '%s\n' "$header" '// swift-tools-version: 6.2' >"$tree/Package.swift"
    sed -i 1,3d "$tree/Package.swift"
    found 'Package.swift:2: no licence header'

    local consumer=Tests/Consumers/TestKitConsumer/Tests
    fresh
    mkdir -p "$tree/docs" "$tree/$consumer"
    printf '%s\n' "$header" '' 'struct One {' '    let one = 1' '' '    let two = 2' '}' >"$tree/$consumer/One.swift"
    printf '%s\n' '```swift' 'let one = 1' 'let two = 2' '```' '```sh' 'ls' '```' >"$tree/docs/TESTING.md"
    cases=$((cases + 1))
    if ! check "$tree"; then
        echo "self-test: an example that is in the consumer is reported"
        failures=$((failures + 1))
    fi
    printf '%s\n' '```swift' 'let one = 2' '```' >>"$tree/docs/TESTING.md"
    found 'docs/TESTING.md:8: this code is not in'

    # What add-headers.sh writes is what the check wants, and a second run changes nothing.
    fresh
    printf '%s\n' '// swift-tools-version: 6.2' 'import PackageDescription' >"$tree/Package.swift"
    printf '\n%s\n' '/// One.' >"$tree/Sources/One.swift"
    (cd "$tree" && "$here/scripts/add-headers.sh" Package.swift Sources/One.swift >/dev/null)
    cases=$((cases + 1))
    if ! check "$tree" || [ "$(sed -n '1p;5,6p' "$tree/Package.swift")" != $'// swift-tools-version: 6.2\n\nimport PackageDescription' ] ||
        [ "$(tail -n 2 "$tree/Sources/One.swift")" != $'\n/// One.' ] ||
        [ -n "$(cd "$tree" && "$here/scripts/add-headers.sh" Package.swift Sources/One.swift)" ]; then
        echo "self-test: add-headers.sh does not write what the check wants"
        failures=$((failures + 1))
    fi

    echo "self-test: $cases cases, $failures failed"
    [ "$failures" -eq 0 ]
}

case ${1:-} in
--self-test) self_test ;;
*) check "$(cd "${1:-$here}" && pwd)" ;;
esac
