#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""busy.py DEVICE FIRST DISCARD WRITE: keeps two batches busy with 16 first writes,
one in each MiB from FIRST (bytes) on, so that none profits from another's
backup. Meanwhile it discards a block at DISCARD, writes one at WRITE and reads
the first one, and prints how many milliseconds each of these took, and how many
first writes were still waiting when the discard had ended. Then it waits for
them. One process, since an emulated CPU starts programs slowly."""

import fcntl
import mmap
import os
import struct
import sys
import threading
import time

BLKDISCARD = 0x1277
BLOCK = 4096
MIB = 1 << 20
# One batch of a few; enough of the others for another batch.
FEW, MORE = 4, 12
# For the worker to take them up.
PAUSE = 0.3

errors = []


def in_background(action, *args):
    def act():
        try:
            action(*args)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    return thread


def main():
    path, first, discarded, written = sys.argv[1], *(int(word) for word in sys.argv[2:])
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    zeros, got = mmap.mmap(-1, BLOCK), mmap.mmap(-1, BLOCK)
    took, firsts, waiting = {}, [], []

    def timed(name, action, *args):
        begin = time.monotonic_ns()
        action(*args)
        took[name] = (time.monotonic_ns() - begin) // 1_000_000
        if name == "discard":
            waiting.append(sum(thread.is_alive() for thread in firsts))

    for count in FEW, MORE:
        for _ in range(count):
            firsts.append(in_background(os.pwrite, fd, zeros, first + len(firsts) * MIB))
        time.sleep(PAUSE)
    others = [
        in_background(timed, "discard", fcntl.ioctl, fd, BLKDISCARD, struct.pack("QQ", discarded, BLOCK)),
        in_background(timed, "write", os.pwrite, fd, zeros, written),
        in_background(timed, "read", os.preadv, fd, [got], 0),
    ]
    for thread in others:
        thread.join()
    if not errors:
        print(took["discard"], took["write"], took["read"], waiting[0], flush=True)
    for thread in firsts:
        thread.join()
    os.close(fd)
    if errors:
        sys.exit(f"busy.py: {errors[0]}")


if __name__ == "__main__":
    main()
