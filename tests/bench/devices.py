# SPDX-License-Identifier: GPL-2.0
"""What is measured: something on one disk, or on two."""

import os

from model import MIB, SECTOR, SIZE_MIB, create, remove, run, write


class Device:
    """The bare disk."""

    # MiB of each disk that must have been written before.
    filled = (SIZE_MIB, 288)

    def __init__(self, name, disks):
        self.name, self.disks = name, disks

    def up(self):
        """With the checkpoint, over a disk without a file system."""
        return self.attach()

    def attach(self):
        """Over a file system, before it is mounted."""
        return self.disks[0].path

    def checkpoint(self, mounted):
        """When it is."""

    def down(self):
        pass

    def moved(self):
        """Blocks of 4 KiB that were copied again."""
        return None


class Linear(Device):
    def attach(self):
        disk = self.disks[0]
        return create("bench", f"0 {disk.sectors} linear {disk.path} 0")

    def down(self):
        remove("bench")


class Snapshot(Device):
    """A write to the origin copies a chunk to the second disk first."""

    def attach(self):
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
    """The upper half is free at the checkpoint, or what the file system says."""

    # null_blk frees its pages at a discard, and to make one again takes 5 us: no disk has such a cost.
    arguments = " 1 no_discard_passdown"
    state = 1

    def attach(self):
        disk = self.disks[0]
        path = create("bench", f"0 {disk.sectors} bow {disk.path}{self.arguments}")
        number = os.stat(path).st_rdev
        self.sysfs = f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/bow"
        return path

    def up(self):
        # A log that is there would be refused.
        self.disks[0].zero(64 << 10)
        path = self.attach()
        half = self.disks[0].sectors * SECTOR // 2
        run("blkdiscard", "-o", str(half), "-l", str(half), path)
        for state in range(1, self.state + 1):
            self.to(state)
        return path

    def checkpoint(self, mounted):
        run("fstrim", mounted)
        # What fstrim has read is read again, as by the others.
        run("umount", mounted)
        run("mount", "/dev/mapper/bench", mounted)
        os.sync()
        self.to(1)

    def to(self, state):
        write(f"{self.sysfs}/state", state)

    def down(self):
        remove("bench")

    def moved(self):
        words = run("dmsetup", "status", "bench").split()
        # Documentation/dm-bow.rst: sectors; other modules named bow do not say it.
        return int(words[10]) // 8 if len(words) > 11 else None


class Bow2(Bow):
    state = 2


class Peer(Bow):
    arguments = ""


class Peer4096(Bow):
    arguments = " 1 block_size:4096"


DEVICES = {
    "bare": Device, "linear": Linear,
    "snapshot-4k": Snapshot, "snapshot-16k": Snapshot, "snapshot-64k": Snapshot,
    "bow": Bow, "bow-state2": Bow2,
    "peer": Peer, "peer-4096": Peer4096,
}
