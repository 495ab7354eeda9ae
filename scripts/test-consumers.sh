#!/usr/bin/env bash
# Builds and runs the packages in Tests/Consumers, which depend on this one by path as somebody else's package would.
#
#     scripts/test-consumers.sh [NAME...]    these consumers (default: all)
#
# Each is built twice, the second time after its files were touched: a package that uses both modules
# named Runtime without an alias breaks in the second build only. A package with tests has them run. Builds are kept in
# .build-consumers: of LightProcConsumer by itself, of the others in one place, so that what they depend on is built once.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ $# -eq 0 ]; then
    for directory in Tests/Consumers/*/; do set -- "$@" "$(basename "$directory")"; done
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT

scratch() { # NAME
    if [ "$1" = LightProcConsumer ]; then echo .build-consumers/alone; else echo .build-consumers/shared; fi
}

# Planned anew each time: the cached plan does not see that a package depended on by path got or lost a file.
build() { # NAME: quiet unless it fails
    swift build --package-path "Tests/Consumers/$1" --scratch-path "$(scratch "$1")" \
        --disable-build-manifest-caching >"$log" 2>&1 || {
        cat "$log"
        return 1
    }
}

runs() { # NAME: its executable ends well and prints `ok NAME` last
    local output
    output=$("$(scratch "$1")/debug/$1" </dev/null) || {
        echo "$1: exit status $?: $output"
        return 1
    }
    if [ "$(tail -n 1 <<<"$output")" != "ok $1" ]; then
        echo "$1: its last line is not 'ok $1': $output"
        return 1
    fi
}

# What who depends on LightProc alone must not pay for. Modules of earlier builds are no evidence, so they go first.
heavy=(Logging Executor Supervision Fort Runtime RuntimeServices ServiceLifecycle)
forget_heavy() { # NAME
    local module
    for module in "${heavy[@]}"; do rm -f "$(scratch "$1")/debug/Modules/$module.swiftmodule"; done
}
is_light() { # NAME
    local folder libraries module
    folder=$(scratch "$1")/debug
    libraries=$(ldd "$folder/$1")
    if ! grep -q libswiftCore <<<"$libraries"; then
        echo "$1: ldd shows no libswiftCore, so what it shows means nothing"
        return 1
    fi
    if grep -E 'libhwloc|libnuma|libFoundation' <<<"$libraries"; then
        echo "$1: links a library that LightProc does not need"
        return 1
    fi
    # A folder Logging.build is there as soon as a build is planned; a module only once it was compiled.
    if [ ! -e "$folder/Modules/LightProc.swiftmodule" ]; then
        echo "$1: no $folder/Modules/LightProc.swiftmodule, so what else is there means nothing"
        return 1
    fi
    for module in "${heavy[@]}"; do
        if [ -e "$folder/Modules/$module.swiftmodule" ]; then
            echo "$1: builds $module, which LightProc does not need"
            return 1
        fi
    done
}

rebuilds() { # NAME: builds and runs again after all its files were touched
    local sources=Tests/Consumers/$1/Sources file record
    find "$sources" -name '*.swift' -exec touch {} +
    build "$1" && runs "$1" || return 1
    for file in "$sources"/*/*.swift; do
        # Written by each compilation of the file; the object file keeps its date if nothing in it changed.
        record=$(scratch "$1")/debug/$(basename "$(dirname "$file")").build/$(basename "$file" .swift).d
        if ! [ "$record" -nt "$file" ]; then
            echo "$1: the second build did not compile $file"
            return 1
        fi
    done
}

tests() { # NAME: the tests of the package, if it has any
    [ -d "Tests/Consumers/$1/Tests" ] || return 0
    swift test --package-path "Tests/Consumers/$1" --scratch-path "$(scratch "$1")" --disable-xctest \
        --disable-build-manifest-caching >"$log" 2>&1 || {
        cat "$log"
        return 1
    }
}

failed=()
for name in "$@"; do
    SECONDS=0
    light=true
    if [ "$name" = LightProcConsumer ]; then
        light="is_light $name"
        forget_heavy "$name"
    fi
    if build "$name" && runs "$name" && $light && rebuilds "$name" && tests "$name"; then
        echo "ok $name (${SECONDS}s)"
    else
        echo "FAILED $name (${SECONDS}s)"
        failed+=("$name")
    fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "consumers: failed: ${failed[*]}" >&2
    exit 1
fi
