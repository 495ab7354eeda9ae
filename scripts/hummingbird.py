#!/usr/bin/env python3
"""Shows that a Hummingbird application behind the guard refuses no connection, whatever its process dies of, and that a trap costs one request.

    scripts/hummingbird.py PROGRAM

While three clients ask GuardedHummingbird, each request on a connection of its own, its process is killed (SIGKILL), has requests that trap, and is
replaced (SIGUSR2), in turns. The last line is `hummingbird: requests=N refused=0 ...`; exit status 0 only if nothing was refused, no connection of
theirs ended without an answer but at most one of each client by a kill, no trap ended the process, and SIGTERM ends the guard with status 0.
"""
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from guarded import children

ROUNDS = 20
TRAPS = 5
CLIENTS = 3
PATIENCE = 30


class Counts:
    def __init__(self):
        self.lock = threading.Lock()
        self.answered = [0] * CLIENTS
        self.refused = self.closed = self.kills = self.traps = self.handovers = 0
        self.problems = []


def request(port, path):
    """The body of the answer; None: the connection ended without one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        answer = b""
        try:
            connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
            while more := connection.recv(4096):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass
    head, _, body = answer.partition(b"\r\n\r\n")
    if not body:
        return None
    return body.decode() if head.startswith(b"HTTP/1.1 200 ") and b"\r\nDate: " in head else f"? {answer!r}"


def ask(client, port, counts, stopped):
    while not stopped.is_set():
        try:
            body = request(port, "/square/7")
        except ConnectionRefusedError:
            with counts.lock:
                counts.refused += 1
            continue
        except OSError as error:
            with counts.lock:
                counts.problems.append(repr(error))
            continue
        with counts.lock:
            if body == "49":
                counts.answered[client] += 1
            elif body is None:
                counts.closed += 1
            else:
                counts.problems.append(body)


class Late(Exception):
    pass


def until(what, is_so):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if is_so():
            return
        time.sleep(0.01)
    raise Late(f"{what}: not after {PATIENCE} s")


def disturb(guard, port, counts):
    """Kills the program, has requests trap, and replaces the program."""

    def serves():
        try:
            return request(port, "/hello") == "hello"
        except OSError:
            return False

    def closed():
        """How many connections have ended without an answer, of those that were open by now."""
        for client, answered in enumerate(list(counts.answered)):
            until("a client is answered", lambda: counts.answered[client] > answered)
        return counts.closed

    until("it serves", serves)
    stopped = threading.Event()
    clients = [threading.Thread(target=ask, args=(client, port, counts, stopped), daemon=True) for client in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in range(ROUNDS):
        (pid,) = children(guard.pid)
        os.kill(pid, signal.SIGKILL)
        until("it is started again", lambda: children(guard.pid) not in ([], [pid]) and serves())
        counts.kills += 1
        by_kills = closed()
        (pid,) = children(guard.pid)
        for _ in range(TRAPS):
            if request(port, f"/square/{2**63 - 1}") is not None:
                counts.problems.append("a request that traps was answered")
            counts.traps += 1
            until("it serves after a trap", serves)
        if children(guard.pid) != [pid]:
            counts.problems.append("a trap ended the program")
        if (by_traps := closed() - by_kills) > 0:
            counts.problems.append(f"closed by traps of others: {by_traps}")
        guard.send_signal(signal.SIGUSR2)
        until("it is replaced", lambda: len(now := children(guard.pid)) == 1 and now != [pid])
        counts.handovers += 1
        if (by_handover := closed() - by_kills - by_traps) > 0:
            counts.problems.append(f"closed by a handover: {by_handover}")
    stopped.set()
    for client in clients:
        client.join(PATIENCE)
    guard.terminate()
    until("it ends", lambda: guard.poll() is not None)
    if guard.returncode != 0:
        counts.problems.append(f"it ended with {guard.returncode}")


def main():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "SWIFT_BACKTRACE": "enable=no"}
    guard = subprocess.Popen([sys.argv[1], str(port)], env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    reader = threading.Thread(target=lambda: said.extend(guard.stderr), daemon=True)
    reader.start()
    counts = Counts()
    try:
        disturb(guard, port, counts)
    except Late as late:
        counts.problems.append(str(late))
    finally:
        guard.kill()
        guard.wait()
    reader.join(PATIENCE)
    # Each kill may close what every client has in hand.
    allowed = counts.kills * CLIENTS
    has_failed = counts.refused or counts.problems or counts.closed > allowed or sum(counts.answered) < 100
    if has_failed:
        sys.stdout.writelines(said)
        print(*counts.problems[:10], sep="\n")
    print(
        f"hummingbird: requests={sum(counts.answered)} refused={counts.refused} closed={counts.closed} of at most {allowed},"
        f" kills={counts.kills} traps={counts.traps} handovers={counts.handovers}: {'FAILED' if has_failed else 'passed'}"
    )
    sys.exit(1 if has_failed else 0)


main()
