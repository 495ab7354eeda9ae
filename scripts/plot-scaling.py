#!/usr/bin/env python3
"""Draws docs/scaling.svg: the size of a group under a load wave. Reads what the example prints:

    swift run --package-path Examples ScalingGroups --csv | scripts/plot-scaling.py
"""
import csv
import pathlib
import sys

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "scaling.svg"
WIDTH, LEFT, RIGHT = 800, 70, 730
PANELS = [("messages a second", "load", "#2980b9"), ("members", "members", "#c0392b"), ("longest wait, ms", "wait", "#7f8c8d")]
HEIGHT, GAP, TOP = 130, 50, 60


def line(rows, column, top, highest, colour, is_step):
    place = lambda row: (LEFT + (RIGHT - LEFT) * int(row["second"]) / int(rows[-1]["second"]), top + HEIGHT * (1 - int(row[column]) / highest))
    points = []
    for row in rows:
        x, y = place(row)
        if is_step and points:
            points.append((x, points[-1][1]))
        points.append((x, y))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def plot(rows):
    total = TOP + len(PANELS) * (HEIGHT + GAP) + 10
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{total}" fill="white"/>',
        '<text x="20" y="26" font-size="15">A group of 1 to 10 members under two waves of load; a member handles 50 messages a second</text>',
    ]
    for number, (title, column, colour) in enumerate(PANELS):
        top = TOP + number * (HEIGHT + GAP)
        highest = max(max(int(row[column]) for row in rows), 1)
        out.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{top + HEIGHT}" y2="{top + HEIGHT}" stroke="#555"/>')
        for share in (0, 0.5, 1):
            y = top + HEIGHT * (1 - share)
            out.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{y:.0f}" y2="{y:.0f}" stroke="#eee"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y + 4:.0f}" text-anchor="end" fill="#555">{highest * share:g}</text>')
        for second in range(0, int(rows[-1]["second"]) + 2, 60):
            x = LEFT + (RIGHT - LEFT) * second / int(rows[-1]["second"])
            out.append(f'<text x="{x:.0f}" y="{top + HEIGHT + 16}" text-anchor="middle" fill="#555">{second} s</text>')
        out.append(f'<text x="{LEFT}" y="{top - 6}" fill="{colour}">{title}</text>')
        out.append(line(rows, column, top, highest, colour, column == "members"))
    return "\n".join(out + ["</svg>", ""])


def main():
    rows = list(csv.DictReader(sys.stdin))
    if not rows:
        sys.exit("nothing to draw: pipe the table of ScalingGroups --csv in")
    OUTPUT.write_text(plot(rows))


main()
