#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The guest's half of scripts/bench: sets devices up, loads them, prints results.

Every line that begins with @result is one JSON object of build/bench/results.json;
all else is for people.
"""

import argparse
import json
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from devices import DEVICES  # noqa: E402
from model import FLUSH_US, NULLB, Disk, remove, run, write  # noqa: E402
from rows import SETUPS, fio  # noqa: E402


def clear():
    """After a row that failed."""
    for name in "bench", "bench-snap":
        try:
            remove(name)
        except RuntimeError:
            pass  # It was not there.


def results_of(device, rows, prefix):
    """True if all went well."""
    well = True
    for setup in SETUPS:
        wanted = [row for row in setup.rows if row in rows]
        if not wanted or (setup.devices and device.name not in setup.devices):
            continue
        start = time.monotonic()
        try:
            for disk, mib in zip(device.disks, device.filled):
                disk.ensure_filled(mib)
            for result in setup.results(device, wanted):
                result["row"] = prefix + result["row"]
                print("@result", json.dumps(result), flush=True)
        except (RuntimeError, OSError) as error:
            print(f"{device.name}: {' '.join(wanted)}: {error}", flush=True)
            well = False
            clear()
        print(f"    {device.name}: {' '.join(wanted)}: {time.monotonic() - start:.1f} s of model time", flush=True)
    return well


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", required=True)
    parser.add_argument("--devices", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--model", choices=FLUSH_US, default="ssd")
    args = parser.parse_args()

    for module in ("null_blk", "nr_devices=0"), ("dm-mod",), ("dm-snapshot",), ("xfs",):
        run("modprobe", *module)
    if not os.path.isdir(NULLB):
        run("mount", "-t", "configfs", "configfs", "/sys/kernel/config")
    run("insmod", args.module)
    if FLUSH_US[args.model]:
        run("insmod", "bench/slow-flush.ko")
    # No work of the kernel's own beside what is measured.
    write("/sys/kernel/mm/transparent_hugepage/enabled", "never")
    disks = [Disk("bench0", args.model), Disk("bench1", args.model)]
    # Read in what is used while nothing is measured.
    fio(disks[0].path, "randread4k_q32")
    prefix = "" if args.model == "ssd" else f"{args.model}_"
    well = True
    for name in args.devices.split():
        device = DEVICES[name](name, disks)
        device.model = args.model
        well = results_of(device, args.rows.split(), prefix) and well
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
