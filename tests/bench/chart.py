# SPDX-License-Identifier: GPL-2.0
"""The chart of scripts/bench: speed of each row as a ratio to dm-linear's."""

WIDTH, LEFT, RIGHT, TOP = 760, 168, 56, 58
BAR, GAP = 11, 12

# Colours that can be told apart by anybody, on white and on black.
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .number { font-size: 11px; fill: #57606a }
  .grid { stroke: #d0d7de }
  .one { stroke: #57606a }
  .bare { fill: #afb8c1 }
  .snapshot { fill: #d4862b }
  .bow { fill: #0f7bb5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .number { fill: #9da7b3 }
    .grid { stroke: #30363d }
    .one { stroke: #9da7b3 }
    .bare { fill: #6e7681 }
    .snapshot { fill: #e09b45 }
    .bow { fill: #3fa7e0 }
  }
"""

BARS = (("bare", "bare disk"), ("snapshot", "best dm-snapshot, on two disks"), ("bow", "dm-bow, in state 1"))


def ratios(results):
    """[(row, {bar: ratio})] of the rows that bow and dm-linear have a speed in."""
    by = {(r["row"], r["device"]): r["iops"] for r in results if r["iops"]}
    found = []
    for row in dict.fromkeys(r["row"] for r in results):
        linear = by.get((row, "linear"))
        if not linear or (row, "bow") not in by:
            continue
        snapshots = [speed for (name, d), speed in by.items() if name == row and d.startswith("snapshot")]
        bars = {"bow": by[row, "bow"], "bare": by.get((row, "bare")), "snapshot": max(snapshots, default=None)}
        found.append((row, {bar: speed / linear for bar, speed in bars.items() if speed}))
    return found


def chart(results):
    rows = ratios(results)
    most = max((ratio for _, bars in rows for ratio in bars.values()), default=1)
    scale = (WIDTH - LEFT - RIGHT) / max(most, 1)
    height = TOP + len(rows) * (len(BARS) * BAR + GAP) + 6
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
           f'viewBox="0 0 {WIDTH} {height}" role="img">',
           "<title>Speed of each row of make bench as a ratio to dm-linear's; longer is faster</title>",
           f"<style>{STYLE}</style>"]
    x = LEFT
    for name, text in BARS:
        out.append(f'<rect class="{name}" x="{x}" y="10" width="{BAR}" height="{BAR}"/>'
                   f'<text x="{x + BAR + 6}" y="20">{text}</text>')
        x += BAR + 6 + 7 * len(text) + 20
    for tick in range(0, int(max(most, 1) * 4) + 1):
        x = LEFT + tick / 4 * scale
        # dm-linear itself.
        kind = "one" if tick == 4 else "grid"
        out.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - 6}"/>'
                   f'<text class="number" x="{x:.1f}" y="{TOP - 14}" text-anchor="middle">'
                   f'{"dm-linear" if tick == 4 else f"{tick / 4:g}"}</text>')
    y = TOP
    for row, bars in rows:
        middle = y + len(BARS) * BAR / 2
        out.append(f'<text x="{LEFT - 10}" y="{middle + 4:.1f}" text-anchor="end">{row}</text>')
        for name, _ in BARS:
            if name in bars:
                width = bars[name] * scale
                out.append(f'<rect class="{name}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR - 1}"/>'
                           f'<text class="number" x="{LEFT + width + 5:.1f}" y="{y + BAR - 2}">{bars[name]:.2f}</text>')
            y += BAR
        y += GAP
    out.append("</svg>")
    return "\n".join(out) + "\n"
