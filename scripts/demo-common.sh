# shellcheck shell=bash
# What demo.sh and demo-stock.sh share: tools, build, start and end of a server, its statistics. To be sourced.
#
# Environment: DEMO_SECONDS (20), DEMO_CONNECTIONS (32), DEMO_THREADS (2, of wrk), DEMO_TRAPS_PER_MILLE (10), DEMO_SEED (1),
# DEMO_SERVER (a server binary to use instead of building one).

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export DEMO_SECONDS="${DEMO_SECONDS:-20}" DEMO_TRAPS_PER_MILLE="${DEMO_TRAPS_PER_MILLE:-10}" DEMO_SEED="${DEMO_SEED:-1}"
connections="${DEMO_CONNECTIONS:-32}"
threads="${DEMO_THREADS:-2}"
# After the last request is sent, wrk goes on for that long, so that every answer has time to come.
drain_seconds=2

work=$(mktemp -d "${TMPDIR:-/tmp}/bastion-demo.XXXXXX")
export DEMO_RESULT="$work/result"
server_pid=''
wrk_pid=''
build_pid=''

# Whatever happens, nothing that was started here is left behind.
clean_up() {
    local status=$? pid
    trap - EXIT INT TERM HUP
    for pid in $build_pid $wrk_pid $server_pid; do
        end_process "$pid"
    done
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# SIGTERM, and SIGKILL for who is still there 3 s later.
end_process() {
    local tries
    kill -TERM "$1" 2>/dev/null || return 0
    for ((tries = 0; tries < 30; tries++)); do
        kill -0 "$1" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Builds an executable of Examples/ in release and sets `server` to its path.
build_server() {
    local product=$1 log="$work/build.log" waited=0 line
    if [ -n "${DEMO_SERVER:-}" ]; then
        server=$DEMO_SERVER
        [ -x "$server" ] || fail "DEMO_SERVER: $server is not an executable file"
        return
    fi
    echo "building $product (release)"
    # SwiftPM does not always compile a module anew when one that it uses only by way of another (LightProc, by way of
    # Runtime) has changed the layout of a type; the program then reads its memory wrongly. New times make it do so.
    find "$root/Examples/Sources/$product" -name '*.swift' -exec touch {} +
    local build=(swift build -c release --package-path "$root/Examples" --product "$product")
    # Planned anew each time: a plan that is kept does not see that the root package got or lost a file.
    "${build[@]}" --disable-build-manifest-caching >"$log" 2>&1 &
    build_pid=$!
    while kill -0 "$build_pid" 2>/dev/null; do
        sleep 1
        waited=$((waited + 1))
        if [ $((waited % 5)) -eq 0 ]; then
            line=$(tail -n 1 "$log" | tr -d '\r' | cut -c 1-100)
            printf '  %3d s  %s\n' "$waited" "$line"
        fi
    done
    if ! wait "$build_pid"; then
        build_pid=''
        tail -n 40 "$log" >&2
        fail "$product does not build"
    fi
    build_pid=''
    server="$("${build[@]}" --show-bin-path)/$product"
}

# Starts the server on a free loopback port and sets `server_pid` and `url`.
start_server() {
    local tries
    # The file must be there before the shell in the background opens it.
    : >"$work/server.out"
    "$server" --host 127.0.0.1 --port 0 >"$work/server.out" 2>"$work/server.err" &
    server_pid=$!
    url=''
    for ((tries = 0; tries < 200; tries++)); do
        url=$(sed -n 's|^listening on \(http://[0-9.]*:[0-9]*\)$|\1|p' "$work/server.out")
        [ -n "$url" ] && return
        kill -0 "$server_pid" 2>/dev/null || break
        sleep 0.05
    done
    tail -n 20 "$work/server.err" >&2
    fail "the server did not start"
}

# Prints the JSON of /stats; fails if there is none within 5 s.
read_statistics() { curl -fsS --noproxy '*' --max-time 5 "$url/stats" 2>/dev/null; }

# member JSON NAME: prints the number of that name, or `?`.
member() {
    local number
    number=$(printf '%s' "$1" | sed -n "s/.*\"$2\":\([0-9.]*\).*/\1/p")
    printf '%s' "${number:-?}"
}

# print_progress SECOND FILE: prints one line from the JSON of /stats.
#
# In awk, not with `$(...)`: a signal that arrives while bash 5.2 expands a nested one makes it fail to parse its own trap.
print_progress() {
    awk -v second="$1" '
        function number(name) {
            if (!match($0, "\"" name "\":[0-9.]+")) return "?"
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3)
        }
        {
            printf "  %3d s  requests %9s  traps contained %7s  restarts %7s  threads %4s  RSS %d MB\n", second,
                number("requests"), number("traps_contained"), number("restarts"), number("threads"),
                number("rss_bytes") / 1000000
        }' "$2"
}

# megabytes BYTES
megabytes() { if [ "$1" = '?' ]; then echo '?'; else echo "$(($1 / 1000000)) MB"; fi; }

# milliseconds MICROSECONDS
milliseconds() { awk -v us="$1" 'BEGIN { printf "%.2f ms", us / 1000 }'; }

# result NAME: prints the values of that name from the figures of demo.lua, one a line.
result() { sed -n "s/^$1=//p" "$DEMO_RESULT"; }

start_load() {
    # The timeout of wrk is the longest latency that counts as an answer.
    wrk -t "$threads" -c "$connections" -d "$((DEMO_SECONDS + drain_seconds))s" --timeout 2s \
        -s "$root/scripts/demo.lua" "$url" >"$work/wrk.out" 2>&1 &
    wrk_pid=$!
}

# Waits for wrk and sees that it left its figures.
finish_load() {
    local status=0
    wait "$wrk_pid" || status=$?
    wrk_pid=''
    if [ "$status" -ne 0 ] || [ ! -s "$DEMO_RESULT" ]; then
        cat "$work/wrk.out" >&2
        fail "wrk ended with status $status and without figures"
    fi
}
