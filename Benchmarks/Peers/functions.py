#!/usr/bin/env python3
"""Where the instructions of our own benchmarks go, by function: a table for each benchmark, on standard output.

    functions.py [--kind reactive|async] [--workers N] [--benches A,B] [--top N]

By callgrind, as instructions.py counts: the difference of two runs of different sizes, so that what is done once does not
count. With one worker by default: two add what they spend looking for work. Needs valgrind, and what build.sh built.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

import compare
import instructions

# Long names tell less than their beginnings.
WIDTH = 90


def by_function(folder, kind, workers, bench, arguments):
    """Instructions by function of one run, those of what it calls not included."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".out") as out:
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", "--log-file=/dev/null"]
        program = ["./savina", "--kind", kind, "--workers", str(workers), "--bench", bench, *map(str, arguments)]
        for _ in range(instructions.ATTEMPTS):
            if subprocess.run([*tool, *program], cwd=folder, capture_output=True, timeout=600).returncode == 0:
                break
        else:
            sys.exit(f"functions: {bench} does not end under valgrind")
        annotate = ["callgrind_annotate", "--threshold=100", "--auto=no", out.name]
        listing = subprocess.run(annotate, capture_output=True, text=True, check=True).stdout
    counts = {}
    for line in listing.splitlines():
        found = re.match(r"\s*([\d,]+) \([^)]*\)\s+\S*?:(.*?)(?: \[[^\]]*\])?$", line)
        if found:
            name = re.sub(r"'\d+$", "", found[2])
            counts[name] = counts.get(name, 0) + int(found[1].replace(",", ""))
    return counts


def demangled(names):
    tool = shutil.which("swift-demangle") or shutil.which("swift")
    if not tool:
        return names
    command = [tool, "--simplified"] if tool.endswith("demangle") else [tool, "demangle", "--simplified"]
    return subprocess.run(command, input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=["reactive", "async"], default="reactive")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--benches", type=lambda text: text.split(","), default=list(instructions.SIZES))
    parser.add_argument("--top", type=int, default=8)
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        sys.exit("functions: valgrind is not installed (Debian: apt-get install valgrind)")
    if not (compare.BUILT / "savina").exists():
        sys.exit("functions: nothing is built: run Benchmarks/Peers/build.sh first")
    with tempfile.TemporaryDirectory() as folder:
        # Of debug information, which valgrind cannot read of all; the symbols stay.
        subprocess.run(["strip", "--strip-debug", "-o", f"{folder}/savina", compare.BUILT / "savina"], check=True)
        for bench in options.benches:
            few = instructions.SIZES[bench]
            many = few[:-1] + [3 * few[-1]]
            less, more = (by_function(folder, options.kind, options.workers, bench, size) for size in (few, many))
            operations = 1.1 * (instructions.operations(bench, many) - instructions.operations(bench, few))
            costs = {name: (count - less.get(name, 0)) / operations for name, count in more.items()}
            # Specialisations of one function count together.
            together = {}
            for name, shown in zip(costs, demangled(list(costs))):
                shown = shown.replace("specialized ", "")[:WIDTH]
                together[shown] = together.get(shown, 0) + costs[name]
            ranked = sorted(together, key=together.get, reverse=True)[: options.top]
            total = sum(together.values())
            print(f"\n| {bench}, {options.kind} | {total:,.0f} |\n|---|---|")
            for shown in ranked:
                print(f"| `{shown}` | {together[shown]:,.0f} |", flush=True)
            print(f"| others | {total - sum(together[shown] for shown in ranked):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
