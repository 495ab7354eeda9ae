#!/usr/bin/env python3
# This source file is part of the Bastion for Swift project
# Licensed under Apache License v2.0 or MIT, at your option
# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Draws docs/mailboxes.svg from what `bench --mailboxes` prints, which comes on standard input."""
import csv
import pathlib
import sys

COLOURS = "#2980b9 #c0392b #e67e22 #16a085 #8e44ad #34495e".split()
TARGET = pathlib.Path(__file__).parent.parent / "docs" / "mailboxes.svg"

series = {}
handled = {}
for row in csv.DictReader(sys.stdin):
    series.setdefault(row["policy"], []).append((int(row["sent"]), float(row["megabytes"])))
    handled[row["policy"]] = int(row["handled"])
if not series:
    sys.exit("nothing on standard input; run: bench --mailboxes | scripts/plot-mailboxes.py")
last = max(sent for points in series.values() for sent, _ in points)
most = max(10.0, max(megabytes for points in series.values() for _, megabytes in points) * 1.1)
left, right, top, bottom = 70, 560, 50, 330
x = lambda sent: left + sent / last * (right - left)
y = lambda megabytes: bottom - megabytes / most * (bottom - top)
out = [
    '<svg xmlns="http://www.w3.org/2000/svg" width="900" height="390" font-family="sans-serif" font-size="13">',
    '<rect width="900" height="390" fill="white"/>',
    '<text x="20" y="26" font-size="16">Memory while a slow consumer is flooded, by policy of its mailbox</text>',
]
for step in range(5):
    value = most * step / 4
    out.append(f'<line x1="{left}" x2="{right}" y1="{y(value):.0f}" y2="{y(value):.0f}" stroke="#ddd"/>')
    out.append(f'<text x="{left - 8}" y="{y(value) + 4:.0f}" text-anchor="end" fill="#555">{value:.1f} MB</text>')
    out.append(
        f'<text x="{x(last * step / 4):.0f}" y="{bottom + 20}" text-anchor="middle" fill="#555">{last * step / 4e6:.1f}M</text>'
    )
out.append(f'<text x="{(left + right) / 2:.0f}" y="{bottom + 42}" text-anchor="middle">messages sent, 64 bytes of content each</text>')
for number, (policy, points) in enumerate(series.items()):
    colour = COLOURS[number % len(COLOURS)]
    line = " ".join(f"{x(sent):.1f},{y(megabytes):.1f}" for sent, megabytes in points)
    out.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    row = top + 20 + 24 * number
    out.append(f'<rect x="{right + 20}" y="{row - 9}" width="14" height="4" fill="{colour}"/>')
    out.append(f'<text x="{right + 40}" y="{row}">{policy}: {handled[policy]:,} handled</text>')
out.append("</svg>")
TARGET.write_text("\n".join(out) + "\n")
print(f"{TARGET}: {len(series)} policies, {last + 1:,} messages each")
