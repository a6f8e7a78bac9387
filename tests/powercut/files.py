#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""files.py VERSION: updates the files below /mnt/app, for ever: to VERSION, then
to the next one. Does so in every way in which an update changes a file system,
each step made durable, and counts the steps."""

import os
import sys

FILES = 300


def main():
    folder = os.open("/mnt/app", os.O_RDONLY)
    version, count = int(sys.argv[1]), 0
    while True:
        for i in range(1, FILES + 1):
            name = f"/mnt/app/file{i}"
            if i % 7 == 3 and os.path.exists(name):
                os.unlink(name)
            elif i % 5 == 1:
                fd = os.open(name, os.O_WRONLY | os.O_CREAT)
                os.pwrite(fd, os.urandom(700), i * 13)
                os.fsync(fd)
                os.close(fd)
            else:
                with open(name + ".new", "wb") as new:
                    new.write(f"version {version}\n".encode() + os.urandom(i * 97 % 15000))
                    new.flush()
                    os.fsync(new.fileno())
                os.rename(name + ".new", name)
            os.fsync(folder)
            count += 1
            if count % 10 == 0:
                print(f"updated {count} files", flush=True)
        version += 1


main()
