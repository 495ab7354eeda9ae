#!/usr/bin/env bash
# Builds the benchmark programs of every runtime whose tools are installed, and our own, into .build-peers.
#
#     Benchmarks/Peers/build.sh             prints what was built and what was left out, and why
#     Benchmarks/Peers/build.sh --install   installs the Debian packages of the others first
#
# Debian's Rust libraries are used offline: see tokio/.cargo/config.toml.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
out=$root/.build-peers
mkdir -p "$out"

if [ "${1:-}" = --install ]; then
    "$root/scripts/install-deps.sh" erlang-base libcaf-dev g++ golang-go cargo \
        librust-tokio-dev librust-tokio-macros-dev librust-num-cpus-dev librust-libc-dev
fi

build() { # NAME TOOL COMMAND...
    local name=$1 tool=$2
    shift 2
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "left out $name: $tool is not installed"
    elif "$@" >"$out/$name.log" 2>&1; then
        echo "built $name"
    else
        echo "left out $name: it does not build, see .build-peers/$name.log"
    fi
}

caf() { g++ -std=c++17 -O3 -DNDEBUG "$here/caf/bench.cpp" -o "$out/bench_caf" -lcaf_core -pthread; }
go() { (cd "$here/go" && GO111MODULE=off command go build -o "$out/bench_go" main.go); }
tokio() {
    (cd "$here/tokio" && cargo build --release --offline --quiet --target-dir "$out/tokio")
    cp "$out/tokio/release/bench_tokio" "$out/"
}
savina() {
    local flags=(-c release --disable-build-manifest-caching --package-path "$root/Benchmarks")
    swift build "${flags[@]}" --product savina
    cp "$(swift build "${flags[@]}" --show-bin-path)/savina" "$out/savina"
}

build bastion swift savina
build swift swiftc swiftc -swift-version 6 -O -wmo -parse-as-library "$here/swift/bench.swift" -o "$out/bench_swift"
build erlang erlc erlc -o "$out" "$here/erlang/bench.erl"
build caf g++ caf
build go go go
build tokio cargo tokio
