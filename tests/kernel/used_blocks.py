#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""used_blocks.py DEVICE < dumpe2fs-output: a digest of all that is in use.

Hashes every block of the device that the ext4 on it does not list as free,
and what lies behind the file system.
"""

import hashlib
import os
import re
import sys


def main():
    text = sys.stdin.read()
    size = int(re.search(r"^Block size: +(\d+)", text, re.M).group(1))
    free = []
    for line in re.findall(r"^  Free blocks: (.*)$", text, re.M):
        for part in filter(None, line.replace(" ", "").split(",")):
            first, _, last = part.partition("-")
            free.append((int(first) * size, (int(last or first) + 1) * size))
    digest = hashlib.sha256()
    device = os.open(sys.argv[1], os.O_RDONLY)
    end = os.lseek(device, 0, os.SEEK_END)
    at = 0
    for start, stop in sorted(free) + [(end, end)]:
        while at < start:
            data = os.pread(device, min(start - at, 1 << 20), at)
            digest.update(data)
            at += len(data)
        at = max(at, stop)
    print(digest.hexdigest())


main()
