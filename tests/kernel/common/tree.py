#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A tree of files as an update of a system would find it, change it and leave it.

    tree.py fill DIR [--files N] [--seed S]     makes N files
    tree.py update DIR [--seed S]               the update: see below
    tree.py work DIR [--seed S...] [--rewrites N]
                                                metadata, the update, and more of
                                                both, for each seed: see below

The update replaces 40 % of the files as package managers do (write a new file,
fsync, rename over the old one), deletes 10 %, and adds 20 %.

The work is for file systems that know the order of things by numbers: a
position in a journal, the version of a checkpoint. It makes the mode of each
file durable N times, so that such numbers go far; does the update; fills
directories of a block each, in space that was free; has all that written; and
then makes some files durable one by one, which is left to the file system's
recovery. What it makes it names after the seed. Files in such directories are
not updated, so that the work does not grow with each turn.
"""

import argparse
import os
import random
import sys

# Directories that are there for their names.
NAMES = "names-"


def write(path, rng, durable):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    # As many small files as large ones, on a scale of powers of two.
    size = rng.randrange(1 << rng.randrange(4, 17))
    with open(path, "wb") as f:
        f.write(rng.randbytes(size))
        if durable:
            f.flush()
            os.fsync(f.fileno())


def files(top):
    found = []
    for folder, folders, names in os.walk(top):
        folders[:] = sorted(n for n in folders if n != "lost+found")
        found += (os.path.join(folder, n) for n in sorted(names))
    return sorted(found)


def fill(top, rng, count, prefix, durable=False):
    for i in range(count):
        write(os.path.join(top, f"{prefix}{i % 5}", f"file-{i}"), rng, durable)


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def rewrite(top, times):
    paths = files(top)
    for turn in range(times):
        for path in paths:
            os.chmod(path, 0o600 | (turn % 2) << 2)
        sync(paths[-1])


def directories(top, seed):
    for folder in range(12):
        path = os.path.join(top, f"{NAMES}{seed}-{folder}")
        os.mkdir(path)
        for i in range(20):
            open(os.path.join(path, f"{seed}-{i}-" + "a-long-name-" * 11), "wb").close()


def work(top, seed, rewrites):
    rng = random.Random(seed)
    rewrite(top, rewrites)
    update(top, rng)
    directories(top, seed)
    os.sync()
    fill(top, rng, 10, f"durable-{seed}-", durable=True)


def update(top, rng):
    old = [path for path in files(top) if f"{os.sep}{NAMES}" not in path]
    if not old:
        sys.exit(f"{top}: no files to update")
    for path in rng.sample(old, len(old) * 2 // 5):
        write(path + ".new", rng, durable=True)
        os.rename(path + ".new", path)
    for path in rng.sample(old, len(old) // 10):
        os.unlink(path)
    fill(top, rng, len(old) // 5, f"new-{rng.randrange(1000)}-")
    sync(top)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("fill", "update", "work"))
    parser.add_argument("dir")
    parser.add_argument("--files", type=int, default=80)
    parser.add_argument("--seed", type=int, nargs="+", default=[1])
    parser.add_argument("--rewrites", type=int, default=0)
    args = parser.parse_args()
    rng = random.Random(args.seed[0])
    if args.command == "fill":
        fill(args.dir, rng, args.files, "dir-")
    elif args.command == "update":
        update(args.dir, rng)
    else:
        for seed in args.seed:
            work(args.dir, seed, args.rewrites)


main()
