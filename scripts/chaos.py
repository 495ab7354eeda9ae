#!/usr/bin/env python3
# Puts steady HTTP load on `UndyingServer --guarded` while everything happens to it that a guard is for, at random: requests that trap,
# SIGKILL and SIGSEGV to the program, SIGSTOP for 3 seconds, an exhausted leak budget, a handover.
#
#     scripts/chaos.py SERVER        CHAOS_SECONDS (60), CHAOS_SEED, CHAOS_CLIENTS (8)
#
# Prints what happened to each request and to the machine. Exit status 0 only if no connection was refused, every request was answered or
# its connection closed while something was done to the program that explains it, and neither a process nor a descriptor is left over.
import collections, os, random, re, signal, socket, subprocess, sys, tempfile, threading, time

from guarded import children

server = sys.argv[1]
seconds = float(os.environ.get("CHAOS_SECONDS", "60"))
seed = int(os.environ.get("CHAOS_SEED", str(random.randrange(1 << 32))))
client_count = int(os.environ.get("CHAOS_CLIENTS", "8"))
chance = random.Random(seed)
reports = tempfile.mkdtemp(prefix="bastion-chaos-")
print(f"chaos: again with CHAOS_SEED={seed} CHAOS_SECONDS={seconds:g} scripts/chaos.sh", flush=True)

environment = dict(os.environ, BASTION_REPORT_DIRECTORY=reports, BASTION_LEAK_BUDGET="8MiB", BASTION_LOG_LEVEL="error", SWIFT_BACKTRACE="enable=no")
guard = subprocess.Popen([server, "--guarded", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         env=environment, start_new_session=True)
log, log_lock, ready = [], threading.Lock(), threading.Condition()
served = 0                                     # how many times the program has said that it serves
port = None


def read_log():
    global served, port
    for line in guard.stdout:
        line = line.decode(errors="replace").rstrip()
        with ready:
            log.append((time.monotonic(), line))
            match = re.match(r"listening on http://127\.0\.0\.1:(\d+)", line)
            if match:
                port = int(match.group(1))
                served += 1
            ready.notify_all()


def await_served(count, limit=30):
    with ready:
        if not ready.wait_for(lambda: served >= count or guard.poll() is not None, limit) or guard.poll() is not None:
            fail(f"the program does not serve (guard: {guard.poll()}):\n" + "\n".join(line for _, line in log if " warning bastion: at=" not in line))


def fail(reason):
    print(f"chaos: FAILED: {reason}", flush=True)
    try:
        os.killpg(guard.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    os._exit(1)


threading.Thread(target=read_log, daemon=True).start()
await_served(1)


def descriptors(pid):
    """But the files that names of functions are looked up in: those stay open, each once. But one report that is being written: after many
    traps there is one for a while. And but those of event loops, which `event_descriptors` counts."""
    count = being_written = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            count += not target.startswith(("/", "anon_inode:")) or target.startswith("/dev")
            being_written += target.startswith(reports)
    except OSError:
        pass
    return count + max(0, being_written - 1)


def event_descriptors(pid):
    """Of libdispatch there are up to 4, made when they are first needed, which is not at the same moment in every program."""
    count = 0
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            count += os.readlink(f"/proc/{pid}/fd/{name}").startswith("anon_inode:")
    except OSError:
        pass
    return count


def settled(pid):
    """When their number has been the same for 2 seconds; at the latest after 20."""
    limit, since, last = time.monotonic() + 20, time.monotonic(), descriptors(pid)
    while time.monotonic() < min(limit, since + 2):
        time.sleep(0.05)
        count = descriptors(pid)
        if count != last:
            since, last = time.monotonic(), count
    return last


def resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096
    except (OSError, IndexError):
        return 0


# ------------------------------------------------------------------------------------------------------- the load

over = threading.Event()
outcomes, hellos, outcomes_lock = collections.Counter(), collections.Counter(), threading.Lock()
closings = []                                  # (when it began, when it was closed, how)
paths = ["/hello"] * 500 + ["/index?i=99", "/divide?by=0", "/unwrap", "/overflow", "/recurse", "/async-trap", "/throw"]


def request(connection, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: chaos\r\n\r\n".encode())
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None, False
        data += more
    head, body = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    wanted = int(length.group(1)) if length else 0
    while len(body) < wanted:
        more = connection.recv(65536)
        if not more:
            return None, False
        body += more
    closes = re.search(rb"(?i)\r\nconnection: *close", head) is not None
    return int(head.split(b" ", 2)[1]), not closes


def client(number):
    chance = random.Random(seed * 1000 + number)
    connection = None
    while not over.is_set():
        began = time.monotonic()
        path = chance.choice(paths)
        how = None
        try:
            if connection is None:
                connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            status, goes_on = request(connection, path)
            if status is None:
                how = "closed"
            else:
                with outcomes_lock:
                    outcomes[status] += 1
                    if path == "/hello":
                        hellos[status] += 1
                if not goes_on:
                    connection.close()
                    connection = None
        except ConnectionRefusedError:
            how = "refused"
        except ConnectionError:
            how = "reset"
        except (TimeoutError, socket.timeout):
            how = "no answer"
        if how:
            with outcomes_lock:
                outcomes[how] += 1
                closings.append((began, time.monotonic(), how))
            if connection:
                connection.close()
            connection = None
        time.sleep(0.002)


# ------------------------------------------------------------------------------------------------------ the chaos

incidents = []                                 # (from, to, what)
program = lambda: children(guard.pid)[:1]
done = collections.Counter()


def incident(what):
    before, began = served, time.monotonic()
    target = children(guard.pid)
    if not target:
        return
    pid = target[0]
    if what in ("SIGKILL", "SIGSEGV"):
        os.kill(pid, getattr(signal, what))
        await_served(before + 1)
    elif what == "SIGSTOP":
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(pid, signal.SIGCONT)
    elif what == "handover":
        os.kill(guard.pid, signal.SIGUSR2)
        await_served(before + 1)
        await_gone(pid)
    elif what == "exhausted":
        # By more traps than the budget allows; the clients' requests are answered meanwhile.
        for _ in range(20_000):
            if served > before:
                break
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                    while served == before and request(connection, "/recurse")[1]:
                        pass
            except ConnectionRefusedError:
                with outcomes_lock:
                    outcomes["refused"] += 1
            except OSError:
                pass
        await_served(before + 1)
        await_gone(pid)
    done[what] += 1
    incidents.append((began, time.monotonic(), what))


def await_gone(pid):
    limit = time.monotonic() + 45
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < limit:
        time.sleep(0.02)
    if os.path.exists(f"/proc/{pid}"):
        fail(f"process {pid} does not end after its successor has taken over")


# The first death leaves its record to the next program, as every one after it does.
incident("SIGKILL")
# What is opened by the first request of a kind is no leak.
for path in sorted(set(paths)):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request(connection, path)
program_descriptors, events_before = settled(children(guard.pid)[0]), event_descriptors(children(guard.pid)[0])
guard_descriptors, guard_memory = descriptors(guard.pid), resident(guard.pid)
clients = [threading.Thread(target=client, args=(number,)) for number in range(client_count)]
for thread in clients:
    thread.start()
start = time.monotonic()
kinds = ["SIGKILL", "SIGSEGV", "SIGSTOP", "exhausted", "handover"]
peak = 0
queue = []
while time.monotonic() - start < seconds:
    if not queue:
        queue = kinds * 1 + ["SIGKILL", "SIGSEGV"]
        chance.shuffle(queue)
    pause = time.monotonic() + chance.uniform(0.2, 1.5)
    while time.monotonic() < pause:
        peak = max(peak, sum(resident(pid) for pid in children(guard.pid)))
        time.sleep(0.05)
    incident(queue.pop())
took = time.monotonic() - start
over.set()
for thread in clients:
    thread.join(40)

# ----------------------------------------------------------------------------------------------------- the verdict

problems = []
# Connections end with the clients; a moment for the server to see that.
limit = time.monotonic() + 10
while time.monotonic() < limit and len(children(guard.pid)) != 1:
    time.sleep(0.05)
pid = children(guard.pid)[-1]
while time.monotonic() < limit and descriptors(pid) > program_descriptors:
    time.sleep(0.05)
guard_descriptors_after, program_descriptors_after = descriptors(guard.pid), descriptors(pid)
events_after = event_descriptors(pid)
guard_memory_after = resident(guard.pid)
held = sorted(os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd"))
os.kill(guard.pid, signal.SIGTERM)
try:
    status = guard.wait(40)
except subprocess.TimeoutExpired:
    fail("the guard does not stop")
left = []
for name in os.listdir("/proc"):
    if name.isdigit():
        try:
            with open(f"/proc/{name}/stat") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            if int(fields[3]) == guard.pid:
                left.append(int(name))
        except OSError:
            pass


def explanation(began, ended):
    # The latest that may have done it. A connection that was idle may have been closed a moment before it is used again.
    found = [what for first, last, what in incidents if began <= last + 1 and ended >= first - 0.1]
    return next((what for what in reversed(found) if what != "SIGSTOP"), found[-1] if found else None)


reasons = collections.Counter(explanation(began, ended) for began, ended, _ in closings)
total = sum(outcomes.values())
# Each with what the program had died of.
deaths = collections.Counter(re.search(r"guard: the program \S+ (.*) after \S+ seconds; starting it again", line).group(1)
                             for _, line in log if "starting it again" in line)
restarts = sum(deaths.values())
handovers = sum("is ready" in line for _, line in log)
print(f"chaos: {took:.0f} s, {total} requests ({total / took:.0f} a second) of {client_count} clients")
for outcome, count in sorted(outcomes.items(), key=str):
    print(f"  {outcome!s:<24}{count:>8}")
for reason, count in sorted(reasons.items(), key=str):
    print(f"  closed in {reason or 'NOTHING KNOWN'!s:<14}{count:>8}")
print("  done: " + ", ".join(f"{done[kind]} {kind}" for kind in kinds))
print(f"  restarts {restarts}, handovers {handovers}, reports {len(os.listdir(reports))}")
print(f"  guard: descriptors {guard_descriptors} -> {guard_descriptors_after}, "
      f"memory {guard_memory / 1e6:.1f} -> {guard_memory_after / 1e6:.1f} MB")
print(f"  program: descriptors {program_descriptors} -> {program_descriptors_after}, of event loops {events_before} -> {events_after}, memory at most {peak / 1e6:.0f} MB")
print(f"  guard's exit status {status}, processes left {len(left)}")
if outcomes["refused"]:
    problems.append(f"{outcomes['refused']} connections were refused")
if outcomes["no answer"]:
    problems.append(f"{outcomes['no answer']} requests were neither answered nor closed")
if reasons[None]:
    problems.append(f"{reasons[None]} connections were closed, and nothing had happened")
# A program that hands over tells each client in an answer that it closes: only who does not ask for a second is closed without one.
drained = reasons["handover"] + reasons["exhausted"]
if drained > 1 + (done["handover"] + done["exhausted"]) * client_count // 10:
    problems.append(f"{drained} connections were closed in a handover before their answer")
# What is stopped for a while answers late, and closes nothing.
if reasons["SIGSTOP"]:
    problems.append(f"{reasons['SIGSTOP']} connections were closed while the program was only stopped for a while")
if hellos[200] < 1000 * took / 60:
    problems.append("there was no load to speak of")
if hellos[200] < 0.99 * sum(hellos.values()):
    problems.append(f"requests that nothing is wrong with were answered otherwise: {dict(hellos)}")
# It dies of nothing but what was done to it. Fewer restarts: another program was on its way already.
for death, count in deaths.items():
    number = re.search(r"was ended by signal (\d+) ", death)
    kind = number and signal.Signals(int(number.group(1))).name
    if kind not in ("SIGKILL", "SIGSEGV") or count > done[kind]:
        problems.append(f"the program {death} {count} times, which was done {done[kind]} times")
for kind in kinds:
    if done[kind] == 0:
        problems.append(f"{kind} did not come up")
if guard_descriptors_after > guard_descriptors:
    problems.append("the guard has leaked descriptors")
if program_descriptors_after > program_descriptors or events_after > events_before + 4:
    problems.append(f"the program has leaked descriptors, of {held}")
if guard_memory_after > guard_memory + 4_000_000:
    problems.append("the guard grows")
if peak > 600_000_000:
    problems.append("the program grows")
if status != 0:
    problems.append(f"the guard ended with {status}")
if left:
    problems.append(f"processes are left: {left}")
if problems:
    for when, line in log:
        if "guard:" in line or "listening" in line:
            print(f"    {when - start:8.2f} {line}")
    fail("; ".join(problems))
subprocess.run(["rm", "-rf", reports])
print(f"chaos: requests={total} refused=0 unanswered=0 unexplained=0 restarts={restarts} handovers={handovers} left=0")
