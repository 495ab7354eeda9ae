#!/usr/bin/env bash
# Enforces the arrows between the modules: CHwloc CNuma CLightProc <- LightProc <- Executor <- Supervision <- Fort <- Runtime,
# and beside Fort: Supervision <- RuntimeServices; for tests: Supervision <- RuntimeTestKit.
#
#     scripts/check-arrows.sh [ROOT]         checks the tree at ROOT (default: this repository)
#     scripts/check-arrows.sh --self-test    plants each kind of violation in a copy and checks that it is found
#
# Prints `file:line: message` for each violation and exits 1 if there is one. It reads the `import` lines under Sources/
# and what SwiftPM itself says about the manifest (`swift package dump-package`). Needs bash, awk and swift.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

# A target, and after the colon which modules of this repository it may use. Left of a name stands what it rests on:
# C shims and hwloc end at Executor, so who depends on LightProc alone links neither hwloc nor libnuma.
arrows='
CHwloc:
CNuma:
CLightProc:
CFort: CLightProc
LightProc: CLightProc
Executor: CHwloc CNuma CLightProc LightProc
Supervision: LightProc Executor
Fort: CFort LightProc Executor Supervision
Runtime: LightProc Executor Supervision Fort
RuntimeServices: LightProc Supervision
RuntimeTestKit: LightProc Executor Supervision
TestSupport: LightProc Executor
otp-conformance: LightProc Executor Supervision
fort-fixture: LightProc Supervision Fort TestSupport
'
# The same for modules of other packages. A target that is not listed may use none.
external='
Supervision: Logging
Fort: Logging
RuntimeServices: ServiceLifecycle ServiceLifecycleTestKit
RuntimeTestKit: Logging
otp-conformance: Logging
'

# targets_of ROOT: `kind<TAB>target<TAB>dependency` for each target and each of its dependencies, from the manifest's JSON.
# The first line of a target has an empty dependency. An awk JSON reader: no tool needed that a new machine lacks.
targets_of() {
    swift package --package-path "$1" dump-package | awk '
        # A scalar arrived at the path of keys and indices kept in path[1...depth].
        function scalar(value,    i, name) {
            name = ""
            for (i = 1; i <= depth; i++) name = name "/" path[i]
            if (name ~ /^\/targets\/[0-9]+\/name$/) names[path[2]] = value
            else if (name ~ /^\/targets\/[0-9]+\/type$/) kinds[path[2]] = value
            else if (name ~ /^\/targets\/[0-9]+\/dependencies\/[0-9]+\/[A-Za-z]+\/0$/)
                uses[path[2]] = uses[path[2]] "\n" value
            if (path[1] == "targets" && depth >= 2 && path[2] + 1 > count) count = path[2] + 1
        }
        function advance() { if (isArray[depth]) path[depth]++ }
        { text = text $0 "\n" }
        END {
            depth = 0
            while (match(text, /"([^"\\]|\\.)*"|[][{}:,]|[-+.0-9A-Za-z]+/)) {
                token = substr(text, RSTART, RLENGTH)
                text = substr(text, RSTART + RLENGTH)
                if (token == "{" || token == "[") {
                    depth++
                    isArray[depth] = (token == "[")
                    path[depth] = isArray[depth] ? 0 : ""
                    isKey = !isArray[depth]
                } else if (token == "}" || token == "]") {
                    depth--
                    isKey = 0
                } else if (token == ",") {
                    advance()
                    isKey = depth > 0 && !isArray[depth]
                } else if (token == ":") {
                    isKey = 0
                } else {
                    gsub(/^"|"$/, "", token)
                    if (isKey) path[depth] = token
                    else scalar(token)
                }
            }
            for (i = 0; i < count; i++) {
                print kinds[i] "\t" names[i] "\t"
                n = split(uses[i], list, "\n")
                for (j = 2; j <= n; j++) print kinds[i] "\t" names[i] "\t" list[j]
            }
        }'
}

# allowed TARGET TABLE: the modules that the table lets the target use; fails if the table does not list it.
allowed() { awk -F ': *' -v target="$1" '$1 == target { print $2; found = 1 } END { exit !found }' <<<"$2"; }

# check_manifest ROOT: the target dependencies in Package.swift.
check_manifest() {
    local root=$1 targets kind target dependency line own others
    if ! targets=$(targets_of "$root"); then
        echo "Package.swift:1: swift package dump-package failed"
        return
    fi
    # Guards against a change of the JSON that this reader would silently see nothing in.
    if ! grep -q "^regular	Runtime	Fort$" <<<"$targets"; then
        echo "Package.swift:1: the manifest declares no target Runtime that depends on Fort (or its JSON cannot be read)"
    fi
    while IFS=$'\t' read -r kind target dependency; do
        if [ "$kind" = test ]; then continue; fi
        line=$(awk -v name="name: *\"$target\"" '
            { declares = /\.(target|executableTarget|systemLibrary|binaryTarget|plugin|macro)\(/ }
            $0 ~ name && (declares || previous) { print NR; exit }
            { previous = declares }' "$root/Package.swift")
        line=${line:-1}
        if ! own=$(allowed "$target" "$arrows"); then
            if [ -z "$dependency" ]; then
                echo "Package.swift:$line: target $target has no row in the table of scripts/check-arrows.sh"
            fi
            continue
        fi
        others=$(allowed "$target" "$external" || true)
        case " $own $others " in
        *" $dependency "*) ;;
        *)
            if [ -n "$dependency" ]; then
                echo "Package.swift:$line: $target must not depend on $dependency (allowed: ${own:-nothing}${others:+, $others})"
            fi
            ;;
        esac
    done <<<"$targets"
}

# check_imports ROOT: the import lines of each folder in Sources/, and that Runtime is nothing but re-exports.
check_imports() {
    local root=$1 directory target own others file
    for directory in "$root"/Sources/*/; do
        target=$(basename "$directory")
        if ! own=$(allowed "$target" "$arrows"); then
            echo "Sources/$target:1: folder has no row in the table of scripts/check-arrows.sh"
            continue
        fi
        others=$(allowed "$target" "$external" || true)
        while IFS= read -r -d '' file; do
            awk -v file="${file#"$root"/}" -v target="$target" -v own="$own" -v others="$others" -v tables="$arrows $external" '
                BEGIN {
                    n = split(tables, words, /[ :\n]+/)
                    for (i = 1; i <= n; i++) known[words[i]] = 1
                    n = split(own " " others, words, / +/)
                    for (i = 1; i <= n; i++) allowed[words[i]] = 1
                }
                function violation(message) { print file ":" NR ": " message }
                # The line without comments and without the text of block comments and multi-line string literals.
                function code(line,    result, start) {
                    result = ""
                    while (line != "") {
                        if (inComment) {
                            start = index(line, "*/")
                            if (!start) return result
                            line = substr(line, start + 2)
                            inComment = 0
                        } else if (inString) {
                            start = index(line, "\"\"\"")
                            if (!start) return result
                            line = substr(line, start + 3)
                            inString = 0
                        } else if (match(line, /"""|"([^"\\]|\\.)*"|\/\/|\/\*/)) {
                            result = result substr(line, 1, RSTART - 1)
                            start = substr(line, RSTART, RLENGTH)
                            line = substr(line, RSTART + RLENGTH)
                            if (start == "//") return result
                            if (start == "/*") inComment = 1
                            else if (start == "\"\"\"") inString = 1
                            else result = result start
                        } else {
                            return result line
                        }
                    }
                    return result
                }
                # One statement. Attributes and access levels come before `import`, a kind and a path after it.
                function statement(text,    module, isExported) {
                    gsub(/^[ \t]+|[ \t]+$/, "", text)
                    gsub(/`/, "", text)
                    if (text == "") return
                    isExported = text ~ /^@_exported[ \t]+(public[ \t]+)?import[ \t]/
                    while (sub(/^@[A-Za-z_]+(\([^)]*\))?[ \t]*/, "", text) \
                        || sub(/^(public|package|internal|fileprivate|private|open)[ \t]+/, "", text)) { }
                    if (text !~ /^import([ \t]|$)/) {
                        if (target == "Runtime") violation("Runtime only re-exports; other code belongs into a target below it")
                        return
                    }
                    sub(/^import[ \t]*/, "", text)
                    sub(/^(typealias|struct|class|enum|protocol|actor|let|var|func|macro)[ \t]+/, "", text)
                    module = text
                    sub(/[^A-Za-z0-9_].*/, "", module)
                    if (module == "") violation("write import and its module on one line")
                    else if (module ~ /^Foundation/) violation(target " must not import " module ": no core target uses Foundation")
                    else if (module ~ /^(Testing|XCTest)$/) violation(target " must not import " module ": its users choose")
                    else if (module in known && !(module in allowed))
                        violation(target " must not import " module " (allowed: " own (others == "" ? "" : ", " others) ")")
                    else if (target == "Runtime" && !(isExported && module in allowed))
                        violation("Runtime only re-exports: write @_exported public import of " own)
                }
                {
                    line = code($0)
                    n = split(line, statements, ";")
                    for (i = 1; i <= n; i++) statement(statements[i])
                }' "$file"
        done < <(find "$directory" -name '*.swift' -print0)
    done
    while IFS= read -r -d '' file; do
        echo "${file#"$root"/}:1: Runtime only re-exports; this file belongs into a target below it"
    done < <(find "$root/Sources/Runtime" -type f ! -name '*.swift' ! -path '*.docc/*' -print0)
    for own in $(allowed Runtime "$arrows"); do
        if ! grep -rqsE "^@_exported (public )?import $own\$" "$root/Sources/Runtime"; then
            echo "Sources/Runtime:1: Runtime does not re-export $own"
        fi
    done
}

# check_unsafe_flags ROOT: SwiftPM refuses a dependency that uses them, so they occur nowhere, in nested packages neither.
check_unsafe_flags() {
    (cd "$1" && find . -name '.?*' -prune -o -name '*.swift' -print0 | xargs -0 -r grep -n unsafeFlags /dev/null || true) |
        sed -E 's|^\./||; s|^([^:]*:[0-9]+):.*|\1: unsafeFlags: a package that uses it cannot be depended on|'
}

# check ROOT [CHECK...]: all of them, or those named.
check() {
    local root=$1 part found
    shift
    if [ $# -eq 0 ]; then set -- check_manifest check_imports check_unsafe_flags; fi
    found=$(for part in "$@"; do "$part" "$root"; done)
    if [ -n "$found" ]; then
        echo "$found"
        return 1
    fi
}

# self_test: a small tree that is clean, then one violation at a time.
self_test() {
    local tree failures=0 cases=0
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    tree=$scratch/tree

    fresh() {
        rm -rf "$tree"
        mkdir -p "$tree/Benchmarks"
        local target
        for target in CLightProc LightProc Executor Supervision Fort Runtime RuntimeTestKit CHwloc CNuma; do
            mkdir -p "$tree/Sources/$target"
        done
        cat >"$tree/Package.swift" <<'END'
// swift-tools-version: 6.2
import PackageDescription

let package = Package(
    name: "bastion",
    products: [
        .library(name: "Executor", targets: ["Executor"])
    ],
    dependencies: [.package(url: "https://github.com/apple/swift-log", from: "1.6.0")],
    targets: [
        .systemLibrary(name: "CHwloc", pkgConfig: "hwloc"),
        .systemLibrary(name: "CNuma", pkgConfig: "numa"),
        .target(name: "CLightProc"),
        .target(name: "LightProc", dependencies: ["CLightProc"]),
        .target(
            name: "Executor",
            dependencies: ["LightProc", "CHwloc", "CNuma"]
        ),
        .target(name: "Supervision", dependencies: ["Executor", .product(name: "Logging", package: "swift-log")]),
        .target(name: "Fort", dependencies: ["Supervision"]),
        .target(name: "Runtime", dependencies: ["LightProc", "Executor", "Supervision", "Fort"]),
        .testTarget(name: "LightProcTests", dependencies: ["Fort"]),
    ]
)
END
        printf '%s\n' '// swift-tools-version: 6.2' 'import PackageDescription' 'let package = Package(name: "b")' \
            >"$tree/Benchmarks/Package.swift"
        printf '%s\n' 'import CLightProc' '// import Foundation' '/*' 'import Foundation' '*/' 'let text = """' \
            'import Fort' '"""' '#if canImport(Foundation)' '#endif' >"$tree/Sources/LightProc/Process.swift"
        printf '%s\n' 'internal import CHwloc' 'package import LightProc' 'import Synchronization' \
            'let importance = "import Fort"' >"$tree/Sources/Executor/Pool.swift"
        printf '%s\n' 'import Logging' >"$tree/Sources/Supervision/Tree.swift"
        printf '%s\n' 'public import Supervision' >"$tree/Sources/Fort/Fort.swift"
        printf '%s\n' 'public import Supervision' 'import Logging' >"$tree/Sources/RuntimeTestKit/Kit.swift"
        printf '%s\n' '// The umbrella.' '' '@_exported public import Executor' '@_exported import Fort' \
            '@_exported public import LightProc' '@_exported public import Supervision' >"$tree/Sources/Runtime/Runtime.swift"
    }
    # found EXPECTED NAME CHECK...: the checks report one violation, and its line starts with EXPECTED.
    found() {
        cases=$((cases + 1))
        local output
        if output=$(check "$tree" "${@:3}" 2>/dev/null); then
            echo "self-test: $2: not found"
        elif ! awk -v start="$1" 'index($0, start) == 1 { hit = 1 } END { exit !hit }' <<<"$output"; then
            printf 'self-test: %s: expected "%s...", got:\n%s\n' "$2" "$1" "$output"
        elif [ "$(wc -l <<<"$output")" -ne 1 ]; then
            printf 'self-test: %s: expected one violation, got:\n%s\n' "$2" "$output"
        else
            return 0
        fi
        failures=$((failures + 1))
    }
    # planted FILE TEXT EXPECTED: with the text appended to the file, `FILE:N: EXPECTED` is found.
    planted() {
        fresh
        printf '%s\n' "$2" >>"$tree/$1"
        found "$1:$(wc -l <"$tree/$1"): $3" "$2 in $1" check_imports check_unsafe_flags
    }

    fresh
    cases=$((cases + 1))
    if ! check "$tree"; then
        echo "self-test: a clean tree is reported"
        failures=$((failures + 1))
    fi

    local form
    for form in 'import Executor' '@_exported import Executor' '@_exported public import Executor' 'package import Executor' \
        'public import Executor' 'internal import Executor' 'private import Executor' 'fileprivate import Executor' \
        'import struct Executor.Pool' 'public import class Executor.Pool' '@testable import Executor' \
        '@_spi(Testing) import Executor' '@preconcurrency import Executor' '@_implementationOnly import Executor' \
        '    import Executor' 'import `Executor`' 'import Executor // why' '/* why */ import Executor' \
        'import Synchronization; import Executor'; do
        planted Sources/LightProc/Process.swift "$form" 'LightProc must not import Executor'
    done
    planted Sources/LightProc/Process.swift 'import CHwloc' 'LightProc must not import CHwloc'
    planted Sources/LightProc/Process.swift 'import Logging' 'LightProc must not import Logging'
    planted Sources/LightProc/Process.swift 'import' 'write import and its module on one line'
    planted Sources/Executor/Pool.swift 'import Supervision' 'Executor must not import Supervision'
    planted Sources/Executor/Pool.swift 'import Logging' 'Executor must not import Logging'
    planted Sources/Supervision/Tree.swift 'import Fort' 'Supervision must not import Fort'
    planted Sources/Supervision/Tree.swift 'import CNuma' 'Supervision must not import CNuma'
    planted Sources/Supervision/Tree.swift 'import RuntimeTestKit' 'Supervision must not import RuntimeTestKit'
    planted Sources/RuntimeTestKit/Kit.swift 'import Fort' 'RuntimeTestKit must not import Fort'
    for form in Testing XCTest; do
        planted Sources/RuntimeTestKit/Kit.swift "import $form" "RuntimeTestKit must not import $form"
    done
    planted Sources/Fort/Fort.swift 'import Runtime' 'Fort must not import Runtime'
    planted Sources/Fort/Fort.swift 'import CLightProc' 'Fort must not import CLightProc'
    for form in Foundation FoundationEssentials FoundationNetworking; do
        planted Sources/Fort/Fort.swift "import $form" "Fort must not import $form"
    done
    planted Sources/Fort/Fort.swift 'import struct Foundation.Date' 'Fort must not import Foundation'
    planted Sources/Runtime/Runtime.swift 'import Fort' 'Runtime only re-exports'
    planted Sources/Runtime/Runtime.swift '@_exported import Synchronization' 'Runtime only re-exports'
    planted Sources/Runtime/Runtime.swift 'public let version = 1' 'Runtime only re-exports'
    planted Sources/Runtime/Runtime.swift '@_exported import CLightProc' 'Runtime must not import CLightProc'
    planted Sources/Runtime/Version.swift 'public enum Version {}' 'Runtime only re-exports'
    planted Sources/Runtime/shim.c 'int one;' 'Runtime only re-exports'
    planted Sources/Fort/Fort.swift '// .unsafeFlags([])' 'unsafeFlags'
    planted Benchmarks/Package.swift '// .unsafeFlags([])' 'unsafeFlags'

    fresh
    sed -i '/import Fort/d' "$tree/Sources/Runtime/Runtime.swift"
    found 'Sources/Runtime:1: Runtime does not re-export Fort' 'missing re-export' check_imports
    fresh
    mkdir "$tree/Sources/Extras"
    found 'Sources/Extras:1: folder has no row' 'unknown folder'
    fresh
    rm "$tree/Package.swift"
    found 'Package.swift:1: swift package dump-package failed' 'no manifest'

    # manifest EDIT EXPECTED: with the sed edit in the manifest, `Package.swift:EXPECTED` is found.
    manifest() {
        fresh
        sed -i -E "$1" "$tree/Package.swift"
        found "Package.swift:$2" "manifest: $1" check_manifest
    }
    manifest 's/(name: "LightProc", dependencies: \[)/\1"CHwloc", /' '14: LightProc must not depend on CHwloc'
    manifest 's/"CHwloc", "CNuma"\]/"CHwloc", "CNuma", "Fort"]/' '16: Executor must not depend on Fort'
    manifest 's/(name: "Fort", dependencies: \[)/\1"CNuma", /' '20: Fort must not depend on CNuma'
    manifest 's/(name: "LightProc", dependencies: \[)/\1.product(name: "Logging", package: "swift-log"), /' \
        '14: LightProc must not depend on Logging'
    manifest 's/(name: "CLightProc")/\1, dependencies: [.target(name: "CHwloc", condition: .when(platforms: [.linux]))]/' \
        '13: CLightProc must not depend on CHwloc'
    manifest 's/^( *)\.testTarget\(.*/&\n        .target(name: "Extras"),/' '23: target Extras has no row'
    manifest 's/name: "Fort", dependencies/name: "Fort" dependencies/' '1: swift package dump-package failed'

    echo "self-test: $cases cases, $failures failed"
    [ "$failures" -eq 0 ]
}

case ${1:-} in
--self-test) self_test ;;
*) check "$(cd "${1:-$here}" && pwd)" ;;
esac
