#!/usr/bin/env python3
"""Counts instructions an operation, by callgrind, for every runtime that build.sh built and that runs under valgrind; writes
them into docs/PEERS.md, below the table of times.

    instructions.py [--peers A,B] [--benches A,B] [--dry]

Two runs of different sizes each: what is printed is the difference, so that what is done once does not count. Counts do not
depend on what else the machine does, but include what workers spend looking for work. Programs are stripped of debug
information first, which valgrind cannot read of all.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import compare

# Small: valgrind is some fifty times slower.
SIZES = {
    "ping_pong": [4000],
    "thread_ring": [100, 8000],
    "counting": [8000],
    "fan_in": [20, 400],
    "fork_join_create": [2000],
    "fork_join_throughput": [100, 80],
    "big": [40, 80],
    "spawn_join": [2000],
    "yield": [100, 60],
}
# Erlang and Go bring memory management that valgrind does not bear; on Swift's own executor valgrind itself crashes.
IMPOSSIBLE = {"erlang", "go", "swift", "swift-actor"}
# Of an async process it does so now and then.
ATTEMPTS = 5


def operations(bench, arguments):
    """As the programs count them."""
    if bench == "thread_ring":
        return arguments[-1]
    product = 1
    for argument in arguments:
        product *= argument
    return product


def count(command, folder, timeout=600):
    """Instructions of one run; or a text that says why there are none."""
    with tempfile.NamedTemporaryFile(dir=folder) as log:
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", f"--log-file={log.name}"]
        try:
            done = subprocess.run([*tool, *command], cwd=folder, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"took more than {timeout} s"
        found = re.search(r"Collected : (\d+)", pathlib.Path(log.name).read_text())
    if done.returncode != 0 or not found:
        return f"ended with status {done.returncode} under valgrind"
    return int(found[1])


def per_operation(name, command, bench, folder):
    few = SIZES[bench]
    many = few[:-1] + [3 * few[-1]]
    counts = []
    for size in (few, many):
        attempts = (count([*command, bench, *map(str, size)], folder) for _ in range(ATTEMPTS))
        failure = None
        for result in attempts:
            if not isinstance(result, str):
                counts.append(result)
                break
            failure = result
        else:
            return failure
    # Each run warms up with a tenth of its last size.
    return (counts[1] - counts[0]) / (1.1 * (operations(bench, many) - operations(bench, few)))


def table(results, names):
    lines = ["| benchmark | " + " | ".join(names) + " |", "|" + "---|" * (len(names) + 1)]
    for bench, each in results.items():
        cells = []
        for name in names:
            result = each.get(name, "")
            cells.append("failed" if isinstance(result, str) and result else result if result == "" else f"{result:,.0f}")
        lines.append(f"| {bench} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--peers", type=names)
    parser.add_argument("--benches", type=names)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("instructions: valgrind is not installed (Debian: apt-get install valgrind)")
    peers = [
        peer
        for peer in compare.PEERS
        if peer[0] not in IMPOSSIBLE
        and (compare.BUILT / peer[2]).exists()
        and (not options.peers or peer[0] in options.peers)
    ]
    if not peers:
        sys.exit("instructions: nothing is built: run Benchmarks/Peers/build.sh first")
    benches = [bench for bench in SIZES if not options.benches or bench in options.benches]
    results = {bench: {} for bench in benches}
    with tempfile.TemporaryDirectory() as folder:
        for built in {peer[2] for peer in peers}:
            subprocess.run(["strip", "--strip-debug", "-o", f"{folder}/{built}", compare.BUILT / built], check=True)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            jobs = {
                pool.submit(per_operation, name, command, bench, folder): (bench, name)
                for bench in benches
                for name, command, _, has in peers
                if bench in has
            }
            for job in concurrent.futures.as_completed(jobs):
                bench, name = jobs[job]
                results[bench][name] = job.result()
                shown = job.result() if isinstance(job.result(), str) else f"{job.result():,.0f}"
                print(f"{bench:22} {name:18} {shown}", flush=True)
    text = table(results, [name for name, *_ in peers])
    print(text)
    if not options.dry:
        compare.replace_instructions(text)


if __name__ == "__main__":
    main()
