# SPDX-License-Identifier: GPL-2.0
"""The models of a disk, and what every file here needs."""

import mmap
import os
import subprocess
import time

KIB = 1 << 10
MIB = 1 << 20
SECTOR = 512
SIZE_MIB = 512
CACHE_MIB = 64
NULLB = "/sys/kernel/config/nullb"

# null_blk: 80 us a request, a volatile cache.
NULL_BLK = dict(completion_nsec=80000, cache_size=CACHE_MIB, blocksize=512, memory_backed=1,
                irqmode=2, discard=1, hw_queue_depth=128, submit_queues=1)
# What a flush takes beside that, in microseconds: slow-flush.c below everything.
FLUSH_US = {"ssd": 0, "emmc": 2000}


def run(*words, **options):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}: {done.stdout.strip()}")
    return done.stdout


def write(path, text):
    with open(path, "w") as file:
        file.write(str(text))


def read(path):
    with open(path) as file:
        return file.read().strip()


def create(name, table):
    run("dmsetup", "create", name, "--noudevsync", "--noudevrules", input=table + "\n")
    run("dmsetup", "mknodes", name)
    return f"/dev/mapper/{name}"


def remove(name):
    for _ in range(50):
        try:
            return run("dmsetup", "remove", "--noudevsync", "--noudevrules", name)
        except RuntimeError as error:
            last = error
            time.sleep(0.1)
    raise last


class Disk:
    """One null_blk disk that keeps its data."""

    def __init__(self, name, model, size_mib=SIZE_MIB):
        self.name = name
        self.path = f"/dev/{name}"
        self.sectors = size_mib * MIB // SECTOR
        self.folder = f"{NULLB}/{name}"
        self.full = self.discards = 0
        os.mkdir(self.folder)
        for key, value in dict(NULL_BLK, size=size_mib).items():
            write(f"{self.folder}/{key}", value)
        write(f"{self.folder}/power", 1)
        self.slow = FLUSH_US[model]
        if self.slow:
            self.path = create(f"{name}-slow", f"0 {self.sectors} slow-flush {self.path} {self.slow}")

    def fill(self, begin, end):
        """Writes from MiB begin to end, so that no page is made while something is measured."""
        fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
        with mmap.mmap(-1, MIB) as zeros:
            for place in range(begin, end):
                os.pwrite(fd, zeros, place * MIB)
        os.close(fd)

    def ensure_filled(self, mib):
        """Again when something was discarded."""
        if self.full < mib or self.counts()["discards"] != self.discards:
            self.fill(0, mib)
            self.flush()
            self.full = mib
            self.discards = self.counts()["discards"]

    def fill_cache(self):
        """Leaves the cache full, as it is when the disk has just been filled.

        null_blk puts into its cache only what its data has no page for.
        """
        begin = self.full - CACHE_MIB
        run("blkdiscard", "-f", "-o", str(begin * MIB), "-l", str(CACHE_MIB * MIB), self.path)
        self.fill(begin, self.full)
        self.discards = self.counts()["discards"]

    def zero(self, length):
        """The first bytes, past the cache."""
        fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
        with mmap.mmap(-1, length) as zeros:
            os.pwrite(fd, zeros, 0)
        os.close(fd)

    def flush(self):
        fd = os.open(self.path, os.O_WRONLY)
        os.fsync(fd)
        os.close(fd)

    def counts(self):
        words = [int(word) for word in read(f"/sys/block/{self.name}/stat").split()]
        return dict(reads=words[0], read_kib=words[2] // 2, writes=words[4],
                    written_kib=words[6] // 2, discards=words[11], flushes=words[15])

    def gone(self):
        if self.slow:
            remove(f"{self.name}-slow")
        write(f"{self.folder}/power", 0)
        os.rmdir(self.folder)


class HostDisk:
    """A file of the host."""

    def __init__(self, serial):
        self.path = os.path.realpath(f"/dev/bow/{serial}")
        self.name = os.path.basename(self.path)
        self.sectors = int(read(f"/sys/block/{self.name}/size"))

    zero, flush, counts = Disk.zero, Disk.flush, Disk.counts
