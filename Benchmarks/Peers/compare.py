#!/usr/bin/env python3
"""Runs the same benchmarks on every runtime that build.sh built, in turn, and writes docs/PEERS.md and docs/peers.svg.

    compare.py [--peers A,B] [--benches A,B] [--repetitions N] [--timeout SECONDS] [--dry]

A B C A B C ...: what else the machine does meets all of them alike. Medians; ratios inside one run are what counts.
--dry prints the table and writes nothing.
"""
import argparse
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILT = ROOT / ".build-peers"
DOCS = ROOT / "docs"

MESSAGES = "ping_pong thread_ring counting fan_in fork_join_create fork_join_throughput big spawn_join".split()
ALL = MESSAGES + ["yield", "idle_memory", "restart"]
TASKS = MESSAGES + ["yield", "idle_memory"]
OURS = ("bastion-reactive", "bastion-async")

# Name, command, what must have been built, which benchmarks it has. In the order of their turns.
PEERS = [
    ("bastion-reactive", ["./savina", "--kind", "reactive", "--workers", "2", "--bench"], "savina", ALL),
    ("bastion-async", ["./savina", "--kind", "async", "--workers", "2", "--bench"], "savina", ALL),
    ("swift", ["./bench_swift", "swift"], "bench_swift", TASKS),
    ("swift-actor", ["./bench_swift", "swift-actor"], "bench_swift", [b for b in MESSAGES if b != "spawn_join"] + ["idle_memory"]),
    ("erlang", "erl +S 2:2 +P 4000000 -noshell -pa . -run bench main".split(), "bench.beam", ALL),
    ("tokio", ["./bench_tokio"], "bench_tokio", TASKS),
    ("caf", ["./bench_caf"], "bench_caf", MESSAGES + ["idle_memory"]),
    ("go", ["./bench_go"], "bench_go", TASKS),
]


def sizes():
    """By benchmark, the arguments of its programs."""
    lines = (line.split("#")[0].split() for line in (HERE / "sizes.txt").read_text().splitlines())
    return {words[0]: words[1:] for words in lines if words}


def run(command, arguments, timeout):
    """What one run printed, as a dictionary of numbers; or a text that says why there is none."""
    try:
        done = subprocess.run([*command, *arguments], cwd=BUILT, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"took more than {timeout:.0f} s"
    line = next((line for line in done.stdout.splitlines() if line.startswith("peer=")), None)
    if done.returncode != 0 or line is None:
        return f"ended with status {done.returncode}: {done.stderr[-200:]!r}"
    return {key: float(value) for key, value in re.findall(r"(\w+)=([0-9.]+)(?:\s|$)", line)}


def measure(options):
    """By benchmark and peer: the medians, and how far the runs were apart; or a text."""
    built = [peer for peer in PEERS if (BUILT / peer[2]).exists() and (not options.peers or peer[0] in options.peers)]
    if not built:
        sys.exit("compare: nothing is built: run Benchmarks/Peers/build.sh first")
    results = {}
    for bench, arguments in sizes().items():
        if options.benches and bench not in options.benches:
            continue
        runs = {name: [] for name, _, _, benches in built if bench in benches}
        for _ in range(options.repetitions):
            for name, command, _, benches in built:
                if bench in benches:
                    runs[name].append(run(command, [bench, *arguments], options.timeout))
        results[bench] = {name: summary(each) for name, each in runs.items()}
        print(text(bench, results[bench]), flush=True)
    return results


def summary(runs):
    failed = [each for each in runs if isinstance(each, str)]
    if failed:
        # Never a median of the survivors.
        return f"{len(failed)} of {len(runs)} runs failed: {failed[0]}"
    result = {key: statistics.median(each[key] for each in runs) for key in runs[0]}
    speeds = [each["ops_per_s"] for each in runs]
    result["low"], result["high"] = min(speeds) / result["ops_per_s"], max(speeds) / result["ops_per_s"]
    return result


def value(bench, result):
    """What counts, and whether more of it is better."""
    return (result["bytes_per_actor"], False) if bench == "idle_memory" else (result["ops_per_s"], True)


def good(results):
    return {name: each for name, each in results.items() if not isinstance(each, str)}


def best(bench, results):
    """The best of the others: name and value; None if there is none."""
    others = {name: value(bench, each) for name, each in good(results).items() if name not in OURS}
    if not others:
        return None
    pick = max if bench != "idle_memory" else min
    name = pick(others, key=lambda name: others[name][0])
    return name, others[name][0]


def ratio(bench, results, name, base):
    """How many times better than the base."""
    mine, more = value(bench, results[name])
    return mine / base if more else base / mine


def text(bench, results):
    lines = [f"== {bench}"]
    for name, each in results.items():
        if isinstance(each, str):
            lines.append(f"{name:18} {each}")
            continue
        number, more = value(bench, each)
        lines.append(f"{name:18} {number:14,.0f} {'ops/s' if more else 'bytes'}  {each['low']:.2f}..{each['high']:.2f}")
    return "\n".join(lines)


def short(number):
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.0f}"


def table(results):
    names = [name for name, *_ in PEERS if any(name in each for each in results.values())]
    head = "| benchmark | " + " | ".join(names) + " | reactive / best other | async / swift |"
    lines = [head, "|" + "---|" * (len(names) + 3)]
    for bench, each in results.items():
        known, base = good(each), best(bench, each)
        cells = []
        for name in names:
            if name not in each:
                cells.append("")
            elif name not in known:
                cells.append("failed")
            else:
                cells.append(short(value(bench, known[name])[0]) + (" B" if bench == "idle_memory" else ""))
        reactive = f"{ratio(bench, known, OURS[0], base[1]):.2f} ({base[0]})" if base and OURS[0] in known else ""
        asynchronous = ""
        if OURS[1] in known and "swift" in known:
            asynchronous = f"{ratio(bench, known, OURS[1], value(bench, known['swift'])[0]):.2f}"
        lines.append(f"| {bench} | " + " | ".join(cells) + f" | {reactive} | {asynchronous} |")
    return "\n".join(lines)


def plot(results):
    """A dot per runtime and benchmark: how many times better than stock Swift, on a logarithmic scale."""
    import math

    colours = dict(zip([name for name, *_ in PEERS], "#c0392b #e67e22 #95a5a6 #34495e #8e44ad #16a085 #7f8c8d #2980b9".split()))
    rows = [bench for bench, each in results.items() if "swift" in good(each)]
    left, right, top, step = 170, 760, 60, 34
    exponents = range(-1, 3)
    place = lambda times: left + (math.log10(min(max(times, 0.1), 100)) + 1) / 3 * (right - left)
    height = top + step * len(rows) + 70
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{height}" font-family="sans-serif" font-size="13">',
        f'<rect width="800" height="{height}" fill="white"/>',
        '<text x="20" y="24" font-size="16">Times as good as stock Swift (AsyncStream mailboxes), same machine, same run</text>',
    ]
    for exponent in exponents:
        x = place(10.0**exponent)
        out.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{top - 16}" y2="{height - 66}" stroke="#ddd"/>')
        out.append(f'<text x="{x:.0f}" y="{top - 20}" text-anchor="middle" fill="#555">{10.0**exponent:g}</text>')
    for number, bench in enumerate(rows):
        y = top + step * number + step / 2
        base = value(bench, results[bench]["swift"])[0]
        out.append(f'<text x="{left - 14}" y="{y + 4:.0f}" text-anchor="end">{bench}</text>')
        out.append(f'<line x1="{left}" x2="{right}" y1="{y:.0f}" y2="{y:.0f}" stroke="#eee"/>')
        for name, each in good(results[bench]).items():
            x, size = place(ratio(bench, results[bench], name, base)), 7 if name in OURS else 5
            out.append(f'<circle cx="{x:.1f}" cy="{y:.0f}" r="{size}" fill="{colours[name]}" fill-opacity="0.85"><title>{name}</title></circle>')
    x = 20
    for name, colour in colours.items():
        out.append(f'<circle cx="{x}" cy="{height - 30}" r="5" fill="{colour}"/><text x="{x + 9}" y="{height - 26}" font-size="12">{name}</text>')
        x += 30 + 7 * len(name)
    return "\n".join(out + ["</svg>", ""])


def machine():
    names = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} processing units, Linux {platform.release().split('-')[0]}"


def report(options, results):
    failures = [f"- {bench}, {name}: {each}" for bench, all_ in results.items() for name, each in all_.items() if isinstance(each, str)]
    spread = [each["high"] - each["low"] for all_ in results.values() for each in good(all_).values()]
    latencies = [
        f"- {name}: {each['p50_us']:.1f} µs at the median, {each['p99_us']:.1f} µs at the 99th percentile"
        for name, each in good(results.get("restart", {})).items()
        if "p50_us" in each
    ]
    parts = [
        "# Beside other runtimes",
        "Written by `make bench`, which builds the programs of every runtime that is installed (`Benchmarks/Peers/build.sh --install` "
        "gets the others), runs them in turn, and writes this file and the plot. The same sizes for all "
        "(`Benchmarks/Peers/sizes.txt`), two workers each.",
        f"Medians of {options.repetitions} interleaved runs on {machine()}; operations a second, for idle_memory bytes an actor. "
        f"The runs of one program were apart by {statistics.median(spread):.0%} of the median (median over all), up to {max(spread):.0%}: "
        "only ratios within this table mean something, and small ones do not.",
        table(results),
        "![Times as good as stock Swift](peers.svg)",
        "`swift` reads an `AsyncStream` in a task for each actor; `swift-actor` calls methods of actors. Columns at the right: how many times "
        "better (more operations, fewer bytes) our reactive processes are than the best of the others, and our async ones than `swift`.",
    ]
    if latencies:
        parts += ["From the crash to the first message that the next incarnation handles (`restart`):", "\n".join(latencies)]
    if failures:
        parts += ["Did not finish:", "\n".join(failures)]
    page = DOCS / "PEERS.md"
    instructions = instructions_of(page)
    page.write_text("\n\n".join(parts) + "\n")
    if instructions:
        replace_instructions(instructions)
    (DOCS / "peers.svg").write_text(plot(results))


INSTRUCTIONS = "## Instructions an operation"


def instructions_of(page):
    """The table that instructions.py wrote, or an empty text."""
    parts = page.read_text().split(INSTRUCTIONS) if page.exists() else []
    return "\n".join(line for line in parts[1].splitlines() if line.startswith("|")) if len(parts) == 2 else ""


def replace_instructions(table):
    """Puts a table of instructions at the end of the page."""
    page = DOCS / "PEERS.md"
    text = page.read_text().split(INSTRUCTIONS)[0].rstrip()
    words = (
        "By callgrind (`make bench` counts them after the times): the difference of two runs of different sizes, so that what is "
        "done once does not count. They do not depend on the load, but include what workers spend looking for work, and tell "
        "nothing of cache misses. Erlang, Go and Swift's own executor do not run under valgrind."
    )
    page.write_text(f"{text}\n\n{INSTRUCTIONS}\n\n{words}\n\n{table}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--peers", type=names)
    parser.add_argument("--benches", type=names)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=120)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    unknown = set(options.peers or []) - {name for name, *_ in PEERS} | set(options.benches or []) - set(sizes())
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    results = measure(options)
    print(table(results))
    if not options.dry:
        report(options, results)


if __name__ == "__main__":
    main()
