#!/usr/bin/env bash
# Drives Examples/UndyingServer with mixed requests of which about 1 % trap, and checks that nothing else notices.
#
# The last line is `demo: requests=N ok=N trapped=N failed=N pid_changed=no`. Exit status 0 only if every request got the answer
# it must get, the OS process stayed the same, the server counted the traps too, and SIGTERM ended it with status 0.
# Environment: see demo-common.sh.
set -euo pipefail
# shellcheck source=scripts/demo-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-common.sh"

"$root/scripts/install-deps.sh" wrk curl
build_server UndyingServer
start_server
before=$(read_statistics) || fail "the server does not answer /stats"
pid_before=$(member "$before" pid)
[ "$pid_before" != '?' ] || fail "the server does not tell its pid: $before"

echo "UndyingServer listens on $url, pid $pid_before"
echo "load: wrk, $connections connections, $threads threads, $DEMO_SECONDS s, $DEMO_TRAPS_PER_MILLE of 1000 requests trap"
start_load
unanswered_polls=0
for ((second = 1; second <= DEMO_SECONDS; second++)); do
    sleep 1
    kill -0 "$wrk_pid" 2>/dev/null || break
    if ! kill -0 "$server_pid" 2>/dev/null; then
        echo 'the server is dead'
        # wrk does not see by itself that there is nobody left to talk to; SIGINT makes it finish and report.
        kill -INT "$wrk_pid" 2>/dev/null || true
        break
    fi
    if read_statistics >"$work/now"; then
        print_progress "$second" "$work/now"
    else
        unanswered_polls=$((unanswered_polls + 1))
        printf '  %3d s  no answer from /stats\n' "$second"
    fi
done
finish_load

after=$(read_statistics) || after=''
pid_after=$(member "$after" pid)
pid_changed=no
if [ "$pid_after" != "$pid_before" ]; then pid_changed=yes; fi

# A server that is dead already has its status here too.
server_status=0
kill -TERM "$server_pid" 2>/dev/null || true
for ((tries = 0; tries < 100; tries++)); do
    kill -0 "$server_pid" 2>/dev/null || break
    sleep 0.1
done
if kill -0 "$server_pid" 2>/dev/null; then
    server_status='none within 10 s'
else
    wait "$server_pid" || server_status=$?
    server_pid=''
fi

ok=$(result ok)
trapped=$(result trapped)
failed=$(($(result failed) + unanswered_polls))
requests=$((ok + trapped + failed))
counted=0
if [ -n "$after" ]; then counted=$(($(member "$after" traps_contained) - $(member "$before" traps_contained))); fi

echo
printf '%-22s %8s  %s\n' 'contained traps' 'count' 'kind'
result kind
echo
row() { printf '%-22s %s\n' "$1" "$2"; }
row 'requests' "$requests ($((requests / DEMO_SECONDS)) a second)"
row 'answered 2xx' "$ok"
row 'traps contained' "$trapped answered, $counted counted by the server"
row 'restarts' "$(member "$after" restarts)"
row 'failed' "$failed"
row 'latency' \
    "p50 $(milliseconds "$(result p50_us)"), p99 $(milliseconds "$(result p99_us)"), max $(milliseconds "$(result max_us)")"
row 'RSS' "$(megabytes "$(member "$before" rss_bytes)") before, $(megabytes "$(member "$after" rss_bytes)") after"
row 'threads' "$(member "$before" threads) before, $(member "$after" threads) after"
row 'OS process' "pid $pid_before before, $pid_after after"
row 'SIGTERM' "exit status $server_status"
echo

verdict=0
complain() {
    printf 'not good: %s\n' "$1"
    verdict=1
}
if [ "$failed" -ne 0 ]; then
    while IFS= read -r line; do complain "$line"; done < <(result failure)
    if [ "$unanswered_polls" -gt 0 ]; then complain "$unanswered_polls x /stats was not answered"; fi
fi
if [ "$ok" -eq 0 ]; then complain 'no request was answered'; fi
if [ "$counted" -ne "$trapped" ]; then complain "the server counted $counted traps, the clients $trapped"; fi
if [ "$pid_changed" = yes ]; then complain 'the OS process is not the same'; fi
if [ "$server_status" != 0 ]; then
    complain "the exit status of the server is $server_status"
    head -n 15 "$work/server.err"
fi
echo "demo: requests=$requests ok=$ok trapped=$trapped failed=$failed pid_changed=$pid_changed"
if [ "$failed" -ne 0 ]; then verdict=1; fi
exit "$verdict"
