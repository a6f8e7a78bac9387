#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""report.py OUTPUT RESULTS: keeps the results of a run and shows them.

Results of rows and devices that were not in this run stay in RESULTS, but only
what was measured in this run is shown and compared.
"""

import json
import sys


def main():
    output, path = sys.argv[1:]
    results = []
    with open(output) as file:
        for line in file:
            if line.startswith("@result "):
                results.append(json.loads(line[len("@result "):]))
    with open(path, "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    show(results)
    verdicts(results)


def show(results):
    by = {(r["row"], r["device"]): r for r in results}
    rows = list(dict.fromkeys(r["row"] for r in results))
    devices = list(dict.fromkeys(r["device"] for r in results))
    for row in rows:
        print(f"\n{row:16} {'IOPS':>9} {'MiB/s':>8} {'p99 us':>9} {'KiB read':>9} {'written':>9} "
              f"{'flushes':>8} {'moved':>6} {'/linear':>8} {'/snapshot':>9}")
        linear = by.get((row, "linear"))
        snapshots = [by[row, d]["iops"] for d in devices if d.startswith("snapshot") and (row, d) in by]
        for device in devices:
            r = by.get((row, device))
            if not r:
                continue
            moved = "-" if r.get("moved") is None else r["moved"]
            to_linear = f"{r['iops'] / linear['iops']:.3f}" if linear else ""
            to_snap = f"{r['iops'] / max(snapshots):.2f}" if snapshots and "snap" not in device else ""
            print(f"  {device:14} {r['iops']:9,.0f} {r['mib_per_s']:8,.1f} {r['p99_us']:9,.1f} "
                  f"{r['read_kib']:9,} {r['written_kib']:9,} {r['flushes']:8,} {moved:>6} "
                  f"{to_linear:>8} {to_snap:>9}")


READS = ("seqread1m_q4", "randread4k_q32")


def verdicts(results):
    """The figures that bow is to reach, as ratios within this run."""
    by = {(r["row"], r["device"]): r for r in results}
    lines = []

    def speed(row, device):
        return by[row, device]["iops"] if (row, device) in by else None

    def verdict(row, device, what, is_, least, at_most=False):
        if is_ is None or least is None:
            return
        ratio = is_ / least
        reached = is_ <= least if at_most else is_ >= least
        lines.append(f"  {'reached' if reached else 'MISSED ':8} {row:16} {device:11} {what}: "
                     f"{is_:,.3g} of {least:,.3g} ({ratio:.3f})")

    def times(factor, value):
        return None if value is None else factor * value

    def best(row):
        found = [r["iops"] for (name, d), r in by.items() if name == row and d.startswith("snapshot")]
        return max(found) if found else None

    for row, to_snapshot, to_linear in (("dense4k_q1", 2.0, 0.5), ("dense4k_q32", 1.25, 0.62),
                                        ("sparse4k_q32", 1.3, None)):
        is_ = speed(row, "bow")
        verdict(row, "bow", f"IOPS, {to_snapshot} x best dm-snapshot", is_, times(to_snapshot, best(row)))
        if to_linear:
            verdict(row, "bow", f"IOPS, {to_linear} x dm-linear", is_, times(to_linear, speed(row, "linear")))
    sparse = by.get(("sparse4k_q32", "bow"))
    if sparse:
        data = 16384
        verdict("sparse4k_q32", "bow", "KiB written, 2.3 x the data", sparse["written_kib"], 2.3 * data, True)
        verdict("sparse4k_q32", "bow", "KiB read, 1.3 x the data", sparse["read_kib"], 1.3 * data, True)
    w, r = (by.get((row, "bare")) for row in ("seq1m_q4", "seqread1m_q4"))
    if w and r:
        floor = 1 / (2 / w["mib_per_s"] + 1 / r["mib_per_s"])
        verdict("seq1m_q4", "bow", f"MiB/s, 0.85 x the floor of {floor:.1f}", speed("seq1m_q4", "bow"), 0.85 * floor)
    verdict("seq1m_q4", "bow", "MiB/s, above dm-snapshot", speed("seq1m_q4", "bow"), best("seq1m_q4"))
    verdict("rewrite4k_q32", "bow", "IOPS, 0.97 x dm-linear", speed("rewrite4k_q32", "bow"),
            times(0.97, speed("rewrite4k_q32", "linear")))
    for row in READS:
        verdict(row, "bow", "0.99 x dm-linear", speed(row, "bow"), times(0.99, speed(row, "linear")))
    for row in dict.fromkeys(r["row"] for r in results):
        verdict(row, "bow-state2", "0.99 x dm-linear", speed(row, "bow-state2"),
                times(0.99, speed(row, "linear")))
    if lines:
        print("\nFigures to reach:")
        print("\n".join(lines))


if __name__ == "__main__":
    main()
