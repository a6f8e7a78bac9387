#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A tree of files as an update of a system would find it, change it and leave it.

    tree.py fill DIR [--files N] [--seed S]     makes N files
    tree.py update DIR [--seed S]               the update: see below

The update replaces 40 % of the files as package managers do (write a new file,
fsync, rename over the old one), deletes 10 %, and adds 20 %.
"""

import argparse
import os
import random
import sys


def write(path, rng, sync):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # As many small files as large ones, on a scale of powers of two.
    size = rng.randrange(1 << rng.randrange(4, 17))
    with open(path, "wb") as f:
        f.write(rng.randbytes(size))
        if sync:
            f.flush()
            os.fsync(f.fileno())


def files(top):
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(n for n in folders if n != "lost+found")
        found += (os.path.join(folder, n) for n in sorted(names))
    return sorted(found)


def fill(top, rng, count, prefix, sync=False):
    for i in range(count):
        write(os.path.join(top, f"{prefix}{i % 5}", f"file-{i}"), rng, sync)


def update(top, rng):
    old = files(top)
    if not old:
        sys.exit(f"{top}: no files to update")
    for path in rng.sample(old, len(old) * 2 // 5):
        write(path + ".new", rng, sync=True)
        os.rename(path + ".new", path)
    for path in rng.sample(old, len(old) // 10):
        os.unlink(path)
    fill(top, rng, len(old) // 5, f"new-{rng.randrange(1000)}-")
    folder = os.open(top, os.O_RDONLY)
    os.fsync(folder)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("fill", "update"))
    parser.add_argument("dir")
    parser.add_argument("--files", type=int, default=80)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.command == "fill":
        fill(args.dir, rng, args.files, "dir-")
    else:
        update(args.dir, rng)


main()
