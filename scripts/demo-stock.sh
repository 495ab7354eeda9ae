#!/usr/bin/env bash
# Drives Examples/StockServer, the same server written without Bastion, with the same load: the first trap kills it.
#
# Exit status 0 if that was shown: the server died of a signal that a trap raises, and requests failed with it.
# Environment: see demo-common.sh.
set -euo pipefail
# shellcheck source=scripts/demo-common.sh
source "$(dirname "${BASH_SOURCE[0]}")/demo-common.sh"

"$root/scripts/install-deps.sh" wrk curl
build_server StockServer
# The crash itself is what is shown here; a backtrace would only hold it up for seconds.
export SWIFT_BACKTRACE=enable=no
start_server
echo "StockServer listens on $url, pid $server_pid"
echo "load: wrk, $connections connections, $threads threads, $DEMO_SECONDS s, $DEMO_TRAPS_PER_MILLE of 1000 requests trap"
start_load
started=$EPOCHREALTIME
died=no
while kill -0 "$wrk_pid" 2>/dev/null; do
    if ! kill -0 "$server_pid" 2>/dev/null; then
        died=$EPOCHREALTIME
        # wrk does not see by itself that there is nobody left to talk to; SIGINT makes it finish and report.
        sleep 0.5
        kill -INT "$wrk_pid" 2>/dev/null || true
        break
    fi
    sleep 0.05
done
finish_load

ok=$(result ok)
failed=$(result failed)
echo
if [ "$died" = no ]; then
    echo "demo-stock: StockServer survived $ok requests: not shown"
    exit 1
fi
status=0
wait "$server_pid" || status=$?
server_pid=''
signal=none
if [ "$status" -gt 128 ]; then signal="SIG$(kill -l "$status")"; fi
again=$(curl -sS --noproxy '*' --max-time 5 -o /dev/null "$url/hello" 2>&1) && again='answered'

row() { printf '%-22s %s\n' "$1" "$2"; }
row 'StockServer' "died of $signal (exit status $status)"
row 'after' "$(awk -v from="$started" -v to="$died" 'BEGIN { printf "%.2f s", to - from }'), $ok good answers"
row 'failed with it' "$failed (in progress, or refused in the half second until the load was stopped)"
while IFS= read -r line; do row '' "$line"; done < <(result failure)
row 'a new request' "$again"
echo
case $signal in
    SIGILL | SIGTRAP | SIGABRT | SIGFPE | SIGSEGV | SIGBUS) ;;
    *)
        head -n 15 "$work/server.err"
        echo "demo-stock: StockServer ended, but not by a trap: not shown"
        exit 1
        ;;
esac
if [ "$failed" -eq 0 ] || [ "$again" = answered ]; then
    echo 'demo-stock: StockServer died and nobody noticed: not shown'
    exit 1
fi
echo "demo-stock: ok=$ok failed=$failed signal=$signal: one trap ended the server and every other request"
