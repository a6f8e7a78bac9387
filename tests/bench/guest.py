#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The guest's half of scripts/bench: sets devices up, loads them, prints results.

Every line that begins with @result is one JSON object of build/bench/results.json;
all else is for people.
"""

import argparse
import json
import mmap
import os
import struct
import subprocess
import sys
import time

MIB = 1 << 20
SECTOR = 512
SIZE_MIB = 512
NULLB = "/sys/kernel/config/nullb"

# The models of a disk, as null_blk has them.
MODELS = {
    # An SSD: 80 us a request, a volatile cache.
    "ssd": dict(completion_nsec=80000, cache_size=64),
}


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


class Disk:
    """One null_blk disk that keeps its data."""

    def __init__(self, name, model, size_mib=SIZE_MIB):
        self.name = name
        self.path = f"/dev/{name}"
        self.sectors = size_mib * MIB // SECTOR
        self.folder = f"{NULLB}/{name}"
        self.full = self.discards = 0
        os.mkdir(self.folder)
        settings = dict(size=size_mib, blocksize=512, memory_backed=1, irqmode=2, discard=1,
                        hw_queue_depth=128, submit_queues=1)
        settings.update(model)
        for key, value in settings.items():
            write(f"{self.folder}/{key}", value)
        write(f"{self.folder}/power", 1)

    def fill(self, mib):
        """So that no page is made while something is measured."""
        with mmap.mmap(-1, MIB) as zeros:
            fd = os.open(self.path, os.O_WRONLY | os.O_DIRECT)
            for _ in range(mib):
                os.write(fd, zeros)
            if not Device.cache_left:
                os.fsync(fd)
            os.close(fd)

    def ensure_filled(self, mib):
        """Again when something was discarded."""
        if self.full < mib or self.counts()["discards"] != self.discards:
            self.fill(mib)
            self.full = mib
            self.discards = self.counts()["discards"]

    def zero(self, length):
        fd = os.open(self.path, os.O_WRONLY)
        os.pwrite(fd, bytes(length), 0)
        os.fsync(fd)
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
        write(f"{self.folder}/power", 0)
        os.rmdir(self.folder)


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


class Device:
    """What is measured: something on one disk, or on two."""

    cache_left = False

    def __init__(self, name, disks):
        self.name, self.disks = name, disks

    # MiB of each disk that must have been written before.
    filled = (SIZE_MIB, 0)

    def up(self):
        return self.disks[0].path

    def down(self):
        pass

    def moved(self):
        return 0


class Linear(Device):
    def up(self):
        disk = self.disks[0]
        return create("bench", f"0 {disk.sectors} linear {disk.path} 0")

    def down(self):
        remove("bench")


class Snapshot(Device):
    """A write to the origin copies a chunk to the second disk first."""

    filled = (SIZE_MIB, 160)

    def up(self):
        origin, store = self.disks
        chunk = int(self.name.split("-")[1][:-1]) * 2
        store.zero(MIB)
        # The snapshot first: the origin asks it where to split.
        create("bench-snap", f"0 {origin.sectors} snapshot {origin.path} {store.path} P {chunk}")
        return create("bench", f"0 {origin.sectors} snapshot-origin {origin.path}")

    def down(self):
        remove("bench")
        remove("bench-snap")


class Bow(Device):
    """The upper half is free at the checkpoint."""

    arguments = ""
    state = 1

    def up(self):
        disk = self.disks[0]
        disk.zero(64 << 10)
        path = create("bench", f"0 {disk.sectors} bow {disk.path}{self.arguments}")
        half = disk.sectors * SECTOR // 2
        run("blkdiscard", "-o", str(half), "-l", str(half), path)
        number = os.stat(path).st_rdev
        self.sysfs = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/bow"
        for state in range(1, self.state + 1):
            write(f"{self.sysfs}/state", state)
        return path

    def down(self):
        remove("bench")

    def moved(self):
        words = run("dmsetup", "status", "bench").split()
        # Documentation/: the field after the number of entries.
        return int(words[10]) if len(words) > 11 else None


class Bow2(Bow):
    state = 2


class Bow4096(Bow):
    arguments = " 1 block_size:4096"


DEVICES = {
    "bare": Device, "linear": Linear,
    "snapshot-4k": Snapshot, "snapshot-16k": Snapshot, "snapshot-64k": Snapshot,
    "bow": Bow, "bow-state2": Bow2,
    "peer": Bow, "peer-4096": Bow4096,
}

# Row: fio's way of loading, where (MiB), over how much, how much of it, block, depth;
# and the row that must have come before in the same set-up.
ROWS = {
    "dense4k_q1": ("randwrite", 4, "2m", None, "4k", 1, None),
    "dense4k_q32": ("randwrite", 16, "16m", None, "4k", 32, None),
    "seq1m_q4": ("write", 64, "64m", None, "1m", 4, None),
    "sparse4k_q32": ("randwrite", 128, "120m", "16m", "4k", 32, None),
    "rewrite4k_q32": ("randwrite", 16, "16m", None, "4k", 32, "dense4k_q32"),
    "seqread1m_q4": ("read", 64, "64m", None, "1m", 4, "dense4k_q32"),
    "randread4k_q32": ("randread", 16, "16m", None, "4k", 32, "dense4k_q32"),
}


def fio(path, row):
    way, offset, size, io_size, block, depth, _ = ROWS[row]
    words = ["fio", f"--name={row}", f"--filename={path}", "--ioengine=libaio", "--direct=1",
             f"--rw={way}", f"--bs={block}", f"--iodepth={depth}", f"--offset={offset}m",
             f"--size={size}", "--output-format=json"]
    if io_size:
        words.append(f"--io_size={io_size}")
    clock = "/tmp/bench-clock"
    write(clock, "\0" * 16)
    preload = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock.so")
    out = run(*words, env=dict(os.environ, LD_PRELOAD=preload, BENCH_CLOCK=clock))
    with open(clock, "rb") as file:
        first, last = struct.unpack("QQ", file.read(16))
    seconds = (last - first) / 1e9
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise RuntimeError(f"fio: error {job['error']} in {row}")
    side = job["read" if "read" in way else "write"]
    return dict(iops=round(side["total_ios"] / seconds, 1),
                mib_per_s=round(side["io_bytes"] / MIB / seconds, 2),
                fio_iops=round(side["iops"], 1), us=round(seconds * 1e6, 1),
                p99_us=round(side["clat_ns"]["percentile"]["99.000000"] / 1000, 1),
                p50_us=round(side["clat_ns"]["percentile"]["50.000000"] / 1000, 1),
                ios=side["total_ios"])


def measure(device, row, path):
    start = time.monotonic()
    if not device.cache_left:
        # Whatever came before: the disks' caches are empty when a row begins.
        for disk in device.disks:
            disk.flush()
    before = [disk.counts() for disk in device.disks]
    moved = device.moved()
    result = dict(row=row, device=device.name)
    result.update(fio(path, row))
    after = [disk.counts() for disk in device.disks]
    for key in before[0]:
        result[key] = sum(b[key] - a[key] for a, b in zip(before, after))
    result["model_s"] = round(time.monotonic() - start, 2)
    now = device.moved()
    result["moved"] = now - moved if moved is not None and now is not None else None
    return result


def rows_of(device, rows):
    """All rows, each on a set-up of its own but for those that follow another one."""
    done = []
    for row in rows:
        if row in done:
            continue
        first = ROWS[row][6]
        chain = [first] if first else [row]
        # What comes after a row is measured in the same set-up.
        chain += [other for other in rows if ROWS[other][6] == chain[0]]
        start = time.monotonic()
        path = device.up()
        print(f"    {device.name}: up in {time.monotonic() - start:.2f} s", flush=True)
        for step in chain:
            result = measure(device, step, path)
            if step in rows and step not in done:
                done.append(step)
                print("@result", json.dumps(result), flush=True)
        device.down()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default=" ".join(ROWS))
    parser.add_argument("--devices", required=True)
    parser.add_argument("--module", required=True)
    parser.add_argument("--model", default="ssd")
    parser.add_argument("--cache-left", action="store_true",
                        help="do not flush the disks before a row")
    args = parser.parse_args()

    run("modprobe", "null_blk", "nr_devices=0")
    run("modprobe", "dm-mod")
    run("modprobe", "dm-snapshot")
    if not os.path.isdir(NULLB):
        run("mount", "-t", "configfs", "configfs", "/sys/kernel/config")
    Device.cache_left = args.cache_left
    devices = args.devices.split()
    # Read in what is used while nothing is measured.
    run("fio", "--name=warm", "--ioengine=null", "--size=4k", "--output-format=json")
    if any("bow" in name or "peer" in name for name in devices):
        run("insmod", args.module)
    failed = 0
    disks = [Disk("bench0", MODELS[args.model]), Disk("bench1", MODELS[args.model])]
    for name in devices:
        start = time.monotonic()
        device = DEVICES[name](name, disks)
        for disk, mib in zip(disks, device.filled):
            disk.ensure_filled(mib)
        try:
            rows_of(device, args.rows.split())
        except (RuntimeError, OSError) as error:
            print(f"{name}: {error}", flush=True)
            failed = 1
            run("dmsetup", "remove_all")
        print(f"{name}: {time.monotonic() - start:.1f} s of model time", flush=True)
    for disk in disks:
        disk.gone()
    return failed


if __name__ == "__main__":
    sys.exit(main())
