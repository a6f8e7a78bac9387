# SPDX-License-Identifier: GPL-2.0
"""The rows: what is done to a device, and what is measured of it.

A set-up is a generator: it sets a device up, yields the results of the rows
that are wanted, and takes the device down. Documentation/performance.md says
what each row shows.
"""

import ctypes
import json
import mmap
import os
import random
import struct
import subprocess
import time

from devices import Device
from model import KIB, MIB, Disk, HostDisk, create, remove, run, write

LIBC = ctypes.CDLL(None, use_errno=True)

FOUR_JOBS = ("--numjobs=4", "--offset_increment=60m", "--group_reporting")

# fio's way of loading, from where (MiB), over how much, how much of it, block, depth.
LOADS = {
    "dense4k_q1": ("randwrite", 4, "2m", None, "4k", 1),
    "dense4k_q32": ("randwrite", 16, "16m", None, "4k", 32),
    "seq1m_q4": ("write", 64, "64m", None, "1m", 4),
    "sparse4k_q32": ("randwrite", 128, "120m", "16m", "4k", 32),
    # A quarter of the range for each of four jobs.
    "sparse4k_4x8": ("randwrite", 8, "60m", "16m", "4k", 8, *FOUR_JOBS),
    "sparse4k_4x1024": ("randwrite", 8, "60m", "16m", "4k", 1024, *FOUR_JOBS),
    # Into free space.
    "new_seq1m_q4": ("write", 256, "128m", None, "1m", 4),
    "new_rand4k_q32": ("randwrite", 256, "128m", None, "4k", 32),
    "mixed8k_q16": ("randrw", 64, "64m", "32m", "8k", 16, "--rwmixread=70", "--unified_rw_reporting=1"),
    "rewrite4k_q32": ("randwrite", 16, "16m", None, "4k", 32),
    "seqread1m_q4": ("read", 64, "64m", None, "1m", 4),
    "randread4k_q32": ("randread", 16, "16m", None, "4k", 32),
    # Blocks that are not free, among the first thousand ranges: see Ranges.
    "first_write": ("randwrite", 0, "7800k", "1536k", "4k", 32, "--blockalign=8k"),
    # A file of 128 MiB.
    "direct_scattered_q32": ("randwrite", 0, "128m", "32m", "4k", 32),
}


def helper(name):
    """A program of tests/bench."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), name)


def fio(path, load):
    way, offset, size, io_size, block, depth, *more = LOADS[load]
    words = ["fio", f"--name={load}", f"--filename={path}", "--ioengine=libaio", "--direct=1",
             f"--rw={way}", f"--bs={block}", f"--iodepth={depth}", f"--offset={offset}m",
             f"--size={size}", "--lat_percentiles=1", "--output-format=json", *more]
    if io_size:
        words.append(f"--io_size={io_size}")
    clock = "/tmp/bench-clock"
    with open(clock, "wb") as file:
        file.write(bytes(16))
    out = run(*words, env=dict(os.environ, LD_PRELOAD=helper("clock.so"), BENCH_CLOCK=clock))
    with open(clock, "rb") as file:
        first, last = struct.unpack("QQ", file.read(16))
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio: error {job['error']} in {load}")
    side = job["mixed" if way == "randrw" else "read" if "read" in way else "write"]
    result = speed(last - first, side["total_ios"], side["io_bytes"])
    result["fio_iops"] = round(side["iops"], 1)
    # With the time that the submission itself took: a device may hold up the submitter.
    result["p99_us"] = round(side["lat_ns"]["percentile"]["99.000000"] / 1000, 1)
    return result


def speed(ns, operations, length):
    return dict(ms=round(ns / 1e6, 3), ios=operations, iops=round(operations * 1e9 / ns, 1),
                mib_per_s=round(length * 1e9 / MIB / ns, 2))


def timed(action, *args):
    start = time.monotonic_ns()
    action(*args)
    return dict(ms=round((time.monotonic_ns() - start) / 1e6, 3))


def measure(device, row, action, *args, keep_cache=False):
    """One result: what action returns, and what it did to the disks."""
    if not keep_cache:
        # Whatever came before: the disks' caches are empty when a row begins.
        for disk in device.disks:
            disk.flush()
    before = [disk.counts() for disk in device.disks]
    moved = device.moved()
    # A row that has no figure of a sort says so.
    result = dict(row=row, device=device.name, iops=None, mib_per_s=None, p99_us=None)
    result.update(action(*args))
    after = [disk.counts() for disk in device.disks]
    for key in before[0]:
        result[key] = sum(b[key] - a[key] for a, b in zip(before, after))
    now = device.moved()
    result["moved"] = None if moved is None or now is None else max(now - moved, 0)
    return result


class Loads:
    """Loads of fio, one after the other; the first is of first writes."""

    def __init__(self, *rows, loads=None, cache_full=False, devices=None):
        self.rows, self.loads, self.cache_full, self.devices = rows, loads or rows, cache_full, devices

    def results(self, device, wanted):
        if self.cache_full:
            for disk in device.disks:
                disk.fill_cache()
        path = device.up()
        last = max(self.rows.index(row) for row in wanted)
        for row, load in list(zip(self.rows, self.loads))[:last + 1]:
            # What comes before is done in any case: what is wanted builds on it.
            result = measure(device, row, fio, path, load, keep_cache=self.cache_full)
            if row in wanted:
                yield result
        device.down()


class File:
    """An old file of 128 MiB on ext4 is written again, at random places."""

    MOUNTED = "/tmp/bench-mounted"
    MAKE = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0")
    BLOCKS = 128 * MIB // (4 * KIB)

    def __init__(self, row, devices, blocks=None):
        """`blocks`: so many, through the page cache, and a sync at the end."""
        self.rows, self.devices, self.blocks = (row,), devices, blocks

    def results(self, device, wanted):
        below = device.disks[0].path
        run(*self.MAKE, below, "400M")
        os.makedirs(self.MOUNTED, exist_ok=True)
        run("mount", below, self.MOUNTED)
        name = f"{self.MOUNTED}/file"
        with open(name, "wb") as file:
            for _ in range(128):
                file.write(bytes(MIB))
        run("umount", self.MOUNTED)
        run("mount", device.attach(), self.MOUNTED)
        device.checkpoint(self.MOUNTED)
        os.sync()
        load = (self.buffered, name) if self.blocks else (fio, name, self.rows[0])
        try:
            yield measure(device, self.rows[0], *load)
        finally:
            run("umount", self.MOUNTED)
        device.down()

    def buffered(self, name):
        return speed(int(run(helper("rewrite"), name, str(self.blocks))), self.blocks, self.blocks * 4 * KIB)


class Commit:
    """What dense4k_q32 leaves is kept."""

    rows = ("commit",)
    devices = ("bow", "peer", "peer-4096")

    def results(self, device, wanted):
        fio(device.up(), "dense4k_q32")
        yield measure(device, "commit", timed, device.to, 2)
        device.down()


class Update:
    """A small update of a file system: files are replaced, each made durable.

    800 files of 1 KiB to 82 KiB, 40 % of them replaced.
    """

    FILES, REPLACED = 800, 320
    MOUNTED = "/tmp/bench-mounted"

    def __init__(self, row, make, devices):
        self.rows, self.make, self.devices = (row,), make, devices

    def results(self, device, wanted):
        below = device.disks[0].path
        lot = random.Random(1)
        run(*(word.format(below) for word in self.make))
        os.makedirs(self.MOUNTED, exist_ok=True)
        run("mount", below, self.MOUNTED)
        names = [f"{self.MOUNTED}/{number % 20}/file{number}" for number in range(self.FILES)]
        for number in range(20):
            os.mkdir(f"{self.MOUNTED}/{number}")
        for name in names:
            with open(name, "wb") as file:
                file.write(self.contents(lot))
        run("umount", self.MOUNTED)
        path = device.attach()
        run("mount", path, self.MOUNTED)
        device.checkpoint(self.MOUNTED)
        os.sync()
        chosen = [(name, self.contents(lot)) for name in lot.sample(names, self.REPLACED)]
        try:
            yield measure(device, self.rows[0], self.update, chosen, self.MOUNTED)
        finally:
            run("umount", self.MOUNTED)
        device.down()

    @staticmethod
    def contents(lot):
        return lot.randbytes(lot.randint(1 * KIB, 82 * KIB))

    @staticmethod
    def update(chosen, mounted):
        top = os.open(mounted, os.O_RDONLY)
        times, length = [], 0
        start = time.monotonic_ns()
        for name, contents in chosen:
            begin = time.monotonic_ns()
            fd = os.open(name + ".new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(fd, contents)
            os.fsync(fd)
            os.close(fd)
            os.rename(name + ".new", name)
            times.append(time.monotonic_ns() - begin)
            length += len(contents)
        # Not sync(): what the guest's root file system does has no place in the model's time.
        if LIBC.syncfs(top):
            raise OSError(ctypes.get_errno(), "syncfs")
        result = speed(time.monotonic_ns() - start, len(times), length)
        os.close(top)
        result["p99_us"] = round(sorted(times)[len(times) * 99 // 100] / 1000, 1)
        return result


class Ranges:
    """Many small free ranges: every other block of the first ones of a disk of 8 GiB.

    The last 256 MiB are free as well: space for backups is never short, and
    only the number of ranges differs.
    """

    devices = ("bow",)

    def __init__(self, count, first_write, taken=None, commit=None):
        self.count, self.first_write, self.taken, self.commit = count, first_write, taken, commit
        self.rows = tuple(row for row in (taken, first_write, commit) if row)

    def results(self, device, wanted):
        disk = Disk("bench2", device.model, 8 << 10)
        device = type(device)(device.name, [disk])
        base = 0
        if self.taken in wanted:
            # What a checkpoint takes whatever the ranges are.
            base = self.up(device, 1000)[1]
            device.down()
        result, memory = self.up(device, self.count)
        if self.taken in wanted:
            result["bytes_per_range"] = round((memory - base) / (self.count - 1000), 2)
            yield result
        if self.first_write in wanted:
            yield measure(device, self.first_write, fio, "/dev/mapper/bench", "first_write")
        if self.commit in wanted:
            yield measure(device, self.commit, timed, device.to, 2)
        device.down()
        disk.gone()

    def up(self, device, count):
        """The result of the change to state 1, and the memory of the checkpoint in bytes."""
        device.disks[0].zero(64 << 10)
        # Where the free map goes: what the disk keeps is no memory of the checkpoint.
        device.disks[0].fill((8 << 10) - 8, 8 << 10)
        path = device.attach()
        before = free_memory()
        run(helper("discard"), path, str(count))
        run("blkdiscard", "-o", str((8 << 30) - 256 * MIB), path)
        discarded = before - free_memory()
        result = measure(device, self.taken, timed, device.to, 1)
        return result, max(discarded, before - free_memory())


class Resume:
    """A checkpoint of 1,000,000 entries is resumed, one every other block of a disk of 20 GiB."""

    rows = ("resume_1m",)
    devices = ("bow",)
    ENTRIES = 1_000_000

    def results(self, device, wanted):
        disk = Disk("bench2", device.model, 20 << 10)
        device = type(device)(device.name, [disk])
        run("./bow-long-log", disk.path, str(disk.sectors), str(self.ENTRIES))
        disk.flush()
        before = free_memory()
        # Of the disk alone: there is no status before.
        result = measure(Device(device.name, [disk]), self.rows[0], timed, create, "bench",
                         f"0 {disk.sectors} bow {disk.path} 1 resume")
        result["bytes_per_entry"] = round((before - free_memory()) / self.ENTRIES, 2)
        yield result
        remove("bench")
        disk.gone()


class Beside:
    """One writer beside a discard of 4 GiB, which has 500,000 free ranges in it."""

    rows = ("write_beside_discard",)
    devices = ("bow", "peer")

    def results(self, device, wanted):
        disk = Disk("bench2", device.model, 8 << 10)
        device = type(device)(device.name, [disk])
        disk.zero(64 << 10)
        path = device.attach()
        run(helper("discard"), path, "500000")
        yield measure(device, self.rows[0], self.write_beside, path)
        device.down()
        disk.gone()

    @staticmethod
    def write_beside(path):
        lot = random.Random(1)
        times = []
        fd = os.open(path, os.O_WRONLY | os.O_DIRECT)
        with mmap.mmap(-1, 4 * KIB) as block:
            begin = time.monotonic_ns()
            discard = subprocess.Popen(("blkdiscard", "-f", "-l", str(4 << 30), path))
            while discard.poll() is None or not times:
                start = time.monotonic_ns()
                os.pwrite(fd, block, (5 << 30) + lot.randrange(4096) * 4 * KIB)
                times.append(time.monotonic_ns() - start)
        os.close(fd)
        if discard.returncode:
            raise RuntimeError(f"blkdiscard: status {discard.returncode}")
        times.sort()
        return dict(ms=round((time.monotonic_ns() - begin) / 1e6, 3), p99_us=round(times[len(times) * 99 // 100] / 1000, 1),
                    longest_us=round(times[-1] / 1000, 1))


def free_memory():
    """In bytes, with nothing cached that need not be; free pages that a CPU keeps for itself are free."""
    os.sync()
    write("/proc/sys/vm/drop_caches", 3)
    pages = 0
    with open("/proc/zoneinfo") as file:
        for line in file:
            words = line.split()
            if words[0] in ("nr_free_pages", "count:"):
                pages += int(words[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Restore:
    """What seq1m_q4 leaves is rolled back."""

    rows = ("restore",)
    devices = ("bow", "peer", "peer-4096")

    def results(self, device, wanted):
        fio(device.up(), "seq1m_q4")
        device.down()
        # Read in before, so that no wait for QEMU's disk is measured.
        run("./bowctl", "--version")
        yield measure(Device(device.name, device.disks), "restore", self.restore, device.disks[0].path)

    @staticmethod
    def restore(path):
        start = time.monotonic_ns()
        run("./bowctl", "restore", path)
        ns = time.monotonic_ns() - start
        return dict(ms=round(ns / 1e6, 3), mib_per_s=round(64e9 / ns, 2))


class RestoreHost:
    """Leaves a disk of the host for scripts/bench to restore."""

    rows = ("restore_host",)
    devices = ("bow",)

    def results(self, device, wanted):
        device = type(device)(device.name, [HostDisk("restore")])
        fio(device.up(), "seq1m_q4")
        device.down()
        device.disks[0].flush()
        yield from ()


# What gets a row of its own is what says something new.
FEW = ("bare", "linear", "snapshot-4k", "bow", "peer", "peer-4096")
ALL_BUT_STATE_2 = FEW + ("snapshot-16k", "snapshot-64k")

# One after the other in one checkpoint.
CHAIN = ("dense4k_q1", "dense4k_q32", "seq1m_q4", "sparse4k_q32", "rewrite4k_q32", "seqread1m_q4", "randread4k_q32")

SETUPS = (
    Loads("dense4k_q1", cache_full=True),
    Loads("dense4k_q1_flushed", loads=("dense4k_q1",)),
    Loads("dense4k_q32", "rewrite4k_q32", "seqread1m_q4", "randread4k_q32", "sparse_after_dense",
          loads=("dense4k_q32", "rewrite4k_q32", "seqread1m_q4", "randread4k_q32", "sparse4k_q32")),
    Loads("seq1m_q4"),
    Loads("sparse4k_q32"),
    Loads("sparse4k_4x8", devices=ALL_BUT_STATE_2),
    Loads("sparse4k_4x1024", devices=ALL_BUT_STATE_2),
    Loads("mixed8k_q16"),
    Loads("new_seq1m_q4", devices=ALL_BUT_STATE_2),
    Loads("new_rand4k_q32", devices=ALL_BUT_STATE_2),
    Loads(*(f"chain_{load}" for load in CHAIN), loads=CHAIN, devices=ALL_BUT_STATE_2),
    File("buffered_rewrite", ALL_BUT_STATE_2, File.BLOCKS),
    File("buffered_scattered", ALL_BUT_STATE_2, File.BLOCKS // 4),
    File("direct_scattered_q32", ALL_BUT_STATE_2),
    Update("update_ext4", ("mkfs.ext4", "-q", "-F", "-b", "1024", "-E",
                           "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "{}", "400M"), FEW),
    Update("update_xfs", ("mkfs.xfs", "-q", "-f", "-K", "-d", "size=400m", "{}"), FEW),
    Ranges(1000, "first_write_1k"),
    Ranges(100_000, "first_write_100k"),
    Ranges(1_000_000, "first_write_1m", taken="ranges_1m", commit="commit_1m"),
    Resume(),
    Beside(),
    Commit(),
    Restore(),
    RestoreHost(),
)
