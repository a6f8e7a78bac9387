#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""report.py OUTPUT FOLDER: shows the results of a run, and keeps them as
results.json, chart.svg and table.md in FOLDER.
"""

import json
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from chart import chart  # noqa: E402


def main():
    output, folder = sys.argv[1:]
    results = []
    with open(output) as file:
        for line in file:
            if line.startswith("@result "):
                results.append(json.loads(line[len("@result "):]))
    with open(os.path.join(folder, "results.json"), "w") as file:
        json.dump(results, file, indent=1)
        file.write("\n")
    with open(os.path.join(folder, "chart.svg"), "w") as file:
        file.write(chart(results))
    with open(os.path.join(folder, "table.md"), "w") as file:
        file.write(markdown(results))
    show(results)
    lines = Verdicts(results).lines
    if lines:
        print("\nFigures to reach:")
        print("\n".join(lines))


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def ratio(value, other):
    return f"{value / other:.2f}" if value and other else ""


def best_p99(results, row):
    """The least of the dm-snapshots."""
    return min((r["p99_us"] for r in results
                if r["row"] == row and r["device"].startswith("snapshot") and r["p99_us"]), default=None)


def show(results):
    by = {(r["row"], r["device"]): r for r in results}
    devices = list(dict.fromkeys(r["device"] for r in results))
    for row in dict.fromkeys(r["row"] for r in results):
        print(f"\n{row:20} {'IOPS':>9} {'MiB/s':>8} {'ms':>9} {'p99 us':>9} {'KiB read':>9} {'written':>9} "
              f"{'flushes':>8} {'moved':>6} {'/linear':>8} {'/snapshot':>9} {'p99':>6}")
        linear = by.get((row, "linear"))
        snapshots = [by[row, d]["iops"] for d in devices if d.startswith("snapshot") and (row, d) in by]
        for device in devices:
            r = by.get((row, device))
            if not r:
                continue
            to_linear = f"{r['iops'] / linear['iops']:.3f}" if linear else ""
            to_snapshot = f"{r['iops'] / max(snapshots):.2f}" if snapshots and "snap" not in device else ""
            to_p99 = ratio(r["p99_us"], best_p99(results, row)) if "snap" not in device else ""
            print(f"  {device:18} {number(r['iops']):>9} {number(r['mib_per_s'], 1):>8} {number(r['ms'], 1):>9} "
                  f"{number(r['p99_us'], 1):>9} {number(r['read_kib']):>9} {number(r['written_kib']):>9} "
                  f"{number(r['flushes']):>8} {number(r['moved']):>6} {to_linear:>8} {to_snapshot:>9} {to_p99:>6}".rstrip())
            if "bytes_per_range" in r:
                print(f"    {number(r['bytes_per_range'], 1)} bytes of memory a range")
            if "bytes_per_entry" in r:
                print(f"    {number(r['bytes_per_entry'], 1)} bytes of memory an entry")
            if "longest_us" in r:
                print(f"    {number(r['longest_us'], 1)} us, the longest write")


def markdown(results):
    """The table of Documentation/performance.md."""
    by = {(r["row"], r["device"]): r for r in results}
    devices = list(dict.fromkeys(r["device"] for r in results))
    out = [f"| row | {' | '.join(devices)} | bow: read / written / flushes |",
           "|---|" + "---:|" * (len(devices) + 1)]
    single = ["| row | time | |", "|---|---:|---:|"]
    for row in dict.fromkeys(r["row"] for r in results):
        bow = by.get((row, "bow"))
        if not any(by[row, d]["iops"] for d in devices if (row, d) in by):
            more = f"{number(bow['mib_per_s'])} MiB/s" if bow["mib_per_s"] else ""
            if "bytes_per_range" in bow:
                more = f"{number(bow['bytes_per_range'])} bytes a range"
            if "bytes_per_entry" in bow:
                more = f"{number(bow['bytes_per_entry'])} bytes an entry"
            if "longest_us" in bow:
                more = f"{number(bow['longest_us'], 1)} us, the longest write"
            single.append(f"| {row} | {number(bow['ms'], 1)} ms | {more} |")
            continue
        # Of large I/O nobody counts the operations.
        unit = "mib_per_s" if "seq" in row else "iops"
        cells = [number(by[row, d][unit]) if (row, d) in by else "" for d in devices]
        cost = " / ".join(number(bow[key]) for key in ("read_kib", "written_kib", "flushes")) if bow else ""
        out.append(f"| {row} | {' | '.join(cells)} | {cost} |")
    return "\n".join(out) + "\n\n" + "\n".join(single) + "\n"


class Verdicts:
    """The figures that bow is to reach, most of them as ratios within this run."""

    def __init__(self, results):
        self.by = {(r["row"], r["device"]): r for r in results}
        self.lines = []
        rows = list(dict.fromkeys(r["row"] for r in results))
        for row, times in (("dense4k_q1", 2.0), ("dense4k_q32", 1.25), ("sparse4k_q32", 1.3),
                           ("sparse4k_4x1024", 1.2), ("buffered_rewrite", 1.2), ("buffered_scattered", 1.2)):
            self.faster(row, times, "best dm-snapshot", self.best(row))
        for row, times in (("dense4k_q1", 0.5), ("dense4k_q1_flushed", 0.5), ("dense4k_q32", 0.62),
                           ("rewrite4k_q32", 0.97), ("seqread1m_q4", 0.99), ("randread4k_q32", 0.99),
                           ("new_seq1m_q4", 0.98), ("new_rand4k_q32", 0.98)):
            self.faster(row, times, "dm-linear", self.get(row, "linear"))
        for row in rows:
            self.faster(row, 0.99, "dm-linear", self.get(row, "linear"), "bow-state2")
        for row, other in (("sparse4k_4x1024", "sparse4k_4x8"), ("sparse_after_dense", "sparse4k_q32"),
                           ("chain_sparse4k_q32", "sparse4k_q32")):
            self.faster(row, 0.95, other, self.get(other, "bow"))
        self.buffered()
        for row, times in (("sparse4k_q32", 1.3), ("sparse_after_dense", None), ("chain_sparse4k_q32", None)):
            sparse = self.get(row, "bow")
            if sparse:
                data = sparse["ios"] * 4
                self.verdict(row, "KiB written, 2.3 x the data", sparse["written_kib"], 2.3 * data, True)
                if times:
                    self.verdict(row, f"KiB read, {times} x the data", sparse["read_kib"], times * data, True)
        self.sequential()
        self.restore()
        for row in ("update_ext4", "update_xfs"):
            self.update(row)
        ranges = self.get("ranges_1m", "bow")
        if ranges:
            self.verdict("ranges_1m", "ms, under 150", ranges["ms"], 150, True)
            self.verdict("ranges_1m", "bytes of memory a range, 64", ranges["bytes_per_range"], 64, True)
        resume = self.get("resume_1m", "bow")
        if resume:
            self.verdict("resume_1m", "ms, 10 s", resume["ms"], 10_000, True)
            self.verdict("resume_1m", "bytes of memory an entry, 80", resume["bytes_per_entry"], 80, True)
        for row in rows:
            self.tail(results, row)
        many, few = self.get("first_write_1m", "bow"), self.get("first_write_1k", "bow")
        if many and few:
            self.verdict("first_write_1m", "ms, 1.3 x first_write_1k", many["ms"], 1.3 * few["ms"], True)

    def get(self, row, device):
        return self.by.get((row, device))

    def best(self, row):
        found = [r for (name, d), r in self.by.items() if name == row and d.startswith("snapshot")]
        return max(found, key=lambda r: r["iops"], default=None)

    def verdict(self, row, what, is_, bound, at_most=False, device="bow"):
        reached = is_ <= bound if at_most else is_ >= bound
        self.lines.append(f"  {'reached' if reached else 'MISSED':8} {row:20} {device:11} {what}: "
                          f"{is_:,.4g} of {bound:,.4g} ({is_ / bound:.3f})")

    def faster(self, row, times, name, other, device="bow"):
        mine = self.get(row, device)
        if mine and other:
            self.verdict(row, f"IOPS, {times} x {name}", mine["iops"], times * other["iops"], device=device)

    def tail(self, results, row):
        mine, best = self.get(row, "bow"), best_p99(results, row)
        if mine and mine["p99_us"] and best:
            self.verdict(row, "p99 us, 2.0 x the best dm-snapshot's", mine["p99_us"], 2 * best, True)
            if mine["p99_us"] > best:
                self.lines[-1] += ", the goal of 1.0 not reached"

    def sequential(self):
        mine, best = self.get("seq1m_q4", "bow"), self.best("seq1m_q4")
        w, r = self.get("seq1m_q4", "bare"), self.get("seqread1m_q4", "bare")
        if mine and w and r:
            floor = 1 / (2 / w["mib_per_s"] + 1 / r["mib_per_s"])
            self.verdict("seq1m_q4", f"MiB/s, 0.85 x the floor of {floor:.1f}", mine["mib_per_s"], 0.85 * floor)
        if mine and best:
            self.verdict("seq1m_q4", "MiB/s, above dm-snapshot", mine["mib_per_s"], best["mib_per_s"])

    def restore(self):
        """All saved data is read to be checked, and read and written to be restored."""
        mine, w, r = self.get("restore", "bow"), self.get("seq1m_q4", "bare"), self.get("seqread1m_q4", "bare")
        if mine and w and r:
            floor = 1 / (1 / w["mib_per_s"] + 2 / r["mib_per_s"])
            self.verdict("restore", f"MiB/s, 0.8 x the floor of {floor:.1f}", mine["mib_per_s"], 0.8 * floor)

    def buffered(self):
        """As fast as at depth 32, but for what the page cache costs by itself: it does with dm-linear, too."""
        buffered, direct = "buffered_scattered", "direct_scattered_q32"
        mine, at_32 = self.get(buffered, "bow"), self.get(direct, "bow")
        linear, linear_at_32 = self.get(buffered, "linear"), self.get(direct, "linear")
        if mine and at_32 and linear and linear_at_32:
            bound = at_32["ms"] / 0.95 + linear["ms"] - linear_at_32["ms"]
            self.verdict(buffered, f"ms, {direct} / 0.95 and the page cache's cost", mine["ms"], bound, True)

    def update(self, row):
        mine, bare, linear = (self.get(row, device) for device in ("bow", "bare", "linear"))
        if mine and bare:
            self.verdict(row, "flushes, 1.3 x the bare disk's", mine["flushes"], 1.3 * bare["flushes"], True)
        if mine and linear:
            self.verdict(row, "ms, 1.5 x dm-linear's", mine["ms"], 1.5 * linear["ms"], True)


if __name__ == "__main__":
    main()
