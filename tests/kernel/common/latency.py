#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""latency.py DEVICE read|write|discard BYTE: does that to one block of 4 KiB,
past the page cache, and prints how many milliseconds it took."""

import fcntl
import mmap
import os
import struct
import sys
import time

BLKDISCARD = 0x1277
BLOCK = 4096


def main():
    path, way, place = sys.argv[1], sys.argv[2], int(sys.argv[3])
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, BLOCK) as block:
        begin = time.monotonic_ns()
        if way == "read":
            os.preadv(fd, [block], place)
        elif way == "write":
            os.pwrite(fd, block, place)
        elif way == "discard":
            fcntl.ioctl(fd, BLKDISCARD, struct.pack("QQ", place, BLOCK))
        else:
            sys.exit(f"latency.py: {way} is not a way")
        print((time.monotonic_ns() - begin) // 1_000_000)
    # Not closed before: the last close of a block device waits for more than this.
    os.close(fd)


if __name__ == "__main__":
    main()
