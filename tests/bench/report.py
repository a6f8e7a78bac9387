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


if __name__ == "__main__":
    main()
