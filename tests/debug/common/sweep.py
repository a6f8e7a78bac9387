#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Makes the k-th allocation of the module fail, for each k, in what a command does.

One process for all of a sweep: in an emulated debug kernel starting one costs more than the request
itself. Exits with 1 and says what went wrong at which allocation. --summary gets a line for each
kind of allocation: how many have failed.
"""

import argparse
import errno
import mmap
import os
import random
import struct
import subprocess
import sys

from dm import CREATE, Mapper, discard, sectors_of

BLOCK = 4096
# The most blocks that are read or written at once.
MANY = 16
LOG_ENTRIES = 18
KINDS = "failslab", "fail_page_alloc"


class Wrong(Exception):
    """What must hold does not."""


def put(path, text):
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def get(path):
    with open(path, encoding="ascii") as file:
        return file.read().strip()


class Faults:
    """Allocations of one kind from within the module's code, in whatever thread (faults_on of faults.sh).

    The kernel fails those whose number the interval divides, and shows nowhere how many it has
    counted. So we keep the count, from boot on: the k-th from now on is number counted + k.
    """

    def __init__(self, kind, count_up):
        self.kind, self.folder, self.count_up = kind, "/sys/kernel/debug/" + kind, count_up
        self.file = "/tmp/bow-counted-" + kind
        self.counted = int(get(self.file)) if os.path.exists(self.file) else 0
        self.interval = 0

    def arm(self, k):
        self.interval = self.counted + k
        put(self.folder + "/interval", str(self.interval))
        put(self.folder + "/times", "1")
        put(self.folder + "/probability", "100")

    def fired(self):
        return get(self.folder + "/times") == "0"

    def disarm(self):
        """The count is known only once the fault has come up: where it has not, now, elsewhere."""
        for _ in range(5000):
            if self.fired():
                break
            try:
                self.count_up()
            except OSError:
                pass
        if not self.fired():
            raise Wrong("the armed fault never came up")
        put(self.folder + "/probability", "0")
        if self.interval > 1:
            # An interval of 1 does not count.
            self.counted = self.interval
            with open(self.file, "w", encoding="ascii") as file:
                file.write(str(self.counted))


class Device:
    """A bow device, and what every one of its blocks must hold."""

    def __init__(self, name, path, arguments=""):
        self.mapper, self.path, self.sectors = Mapper(name), path, sectors_of(path)
        self.line = f"{path} {arguments}".strip().encode()
        self.buffer = mmap.mmap(-1, MANY * BLOCK)
        self.written = {}
        self.node = self.folder = None

    def create(self):
        self.mapper.ask(CREATE)
        try:
            self.mapper.load(self.sectors, self.line)
            self.mapper.resume()
        except OSError:
            self.remove()
            raise
        self.node, self.folder = self.mapper.block_device(), self.mapper.folder()

    def remove(self):
        if not self.mapper.remove():
            raise Wrong("cannot be removed")

    def status(self):
        return self.mapper.line().decode().split()

    def state(self):
        return int(self.status()[0])

    def change(self, state):
        put(self.folder + "/state", str(state))

    def discard(self, sector, sectors):
        discard(self.node, sector * 512, sectors * 512)

    def read(self, path, block):
        """Past the page cache, as all that follows."""
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            with memoryview(self.buffer)[:BLOCK] as view:
                if os.preadv(fd, [view], block * BLOCK) != BLOCK:
                    raise Wrong("a short read")
                return bytes(view)
        finally:
            os.close(fd)

    def write(self, block, rng, count=1):
        """Of count blocks, in one request."""
        fd = os.open(self.node, os.O_RDWR | os.O_DIRECT)
        try:
            with memoryview(self.buffer)[:count * BLOCK] as view:
                view[:] = rng.randbytes(len(view))
                if os.pwritev(fd, [view], block * BLOCK) != len(view):
                    raise Wrong("a short write")
                for index in range(count):
                    self.written[block + index] = bytes(view[index * BLOCK:(index + 1) * BLOCK])
        finally:
            os.close(fd)

    def check(self, path, contents=None):
        for block, content in (self.written if contents is None else contents).items():
            if self.read(path, block) != content:
                raise Wrong(f"block {block} of {path} has other contents than it must have")


def want_enomem(error, faults):
    if not faults.fired():
        raise Wrong(f"failed without a fault: {error}")
    if error.errno != errno.ENOMEM:
        raise Wrong(f"the error is {errno.errorcode[error.errno]}, not ENOMEM")


class Sweep:
    """The commands: each does its thing once, with a fault armed. What is to follow when nothing
    fails any more, it returns.
    """

    def __init__(self, args):
        self.args = args
        self.rng = random.Random(args.seed)
        self.device = Device("bow0", args.device)
        other = Device("bow-other", args.other)

        def count_up():
            other.create()
            other.remove()
        self.count_up = count_up
        self.fresh = 0

    # Constructor and first resume: refused, or done without.

    def create_begin(self):
        pass

    def create(self, faults):
        if self.comes_up(faults, 0):
            self.device.remove()

    def comes_up(self, faults, state):
        """Whether the device could be created, in this state."""
        try:
            self.device.create()
        except OSError as error:
            want_enomem(error, faults)
            if self.device.mapper.number():
                raise Wrong("failed, and left a device behind") from error
            return False
        if self.device.state() != state:
            raise Wrong(f"created, but: {self.device.status()}")
        return True

    def create_end(self):
        pass

    # The same while there is another one: what the first of all makes, they share.

    def second_begin(self):
        self.companion = Device("bow-companion", self.args.companion)
        self.companion.create()

    second = create

    def second_end(self):
        self.companion.remove()

    # Reload of a device, which keeps its state.

    def reload_begin(self):
        self.device.create()
        self.device.discard(8000, 800)
        self.device.change(1)

    def reload(self, faults):
        before = self.device.status()
        try:
            self.device.mapper.load(self.device.sectors, self.device.path.encode())
        except OSError as error:
            want_enomem(error, faults)
        self.device.mapper.resume()
        if self.device.status() != before:
            raise Wrong(f"{before} became {self.device.status()}")

    def reload_end(self):
        self.device.change(2)
        self.device.remove()

    # A checkpoint on the device: refused, or it goes on.

    def resume_begin(self):
        self.device.create()
        self.device.discard(8000, 800)
        self.device.change(1)
        # Of some log blocks.
        for block in range(20, 100, 2):
            self.device.write(block, self.rng)
        self.device.remove()
        self.device.line += b" 1 resume"

    def resume(self, faults):
        if self.comes_up(faults, 1):
            self.device.check(self.device.node)
            self.device.remove()

    def resume_end(self):
        pass

    # Changes of state: the old one, or wholly the new one.

    def begin(self):
        self.device.create()
        # Many pieces, whose edges are no whole blocks.
        for at in range(4096, 12000, 1003):
            self.device.discard(at, 517)

    def again(self):
        """Commits, and begins anew with what is there."""
        while self.device.state() < 2:
            self.device.change(self.device.state() + 1)
        self.device.remove()
        self.device.check(self.device.path)
        self.begin()

    def change(self, faults, state):
        before = self.device.status()
        try:
            self.device.change(state)
        except OSError as error:
            want_enomem(error, faults)
            after = self.device.status()
            # A checkpoint that fails may forget free space that is no whole block.
            edges = 2 * BLOCK // 512 * int(before[8]) if state == 1 else 0
            if not 0 <= int(before[2]) - int(after[2]) <= edges or [before[0], before[9]] != [after[0], after[9]]:
                raise Wrong(f"failed, and {before} became {after}") from error
            self.device.check(self.device.node)
            return False
        if self.device.state() != state:
            raise Wrong(f"changed to {state}, but: {self.device.status()}")
        return True

    checkpoint_begin = begin

    def checkpoint(self, faults):
        return self.checkpoint_done if self.change(faults, 1) else None

    def checkpoint_done(self):
        for block in self.rng.sample(range(500), 3):
            self.device.write(block, self.rng)
        self.again()

    def checkpoint_end(self):
        self.device.remove()

    def commit_begin(self):
        self.begin()
        self.commit_ready()

    def commit_ready(self):
        self.device.change(1)
        for block in [0] + self.rng.sample(range(1, 500), 3):
            self.device.write(block, self.rng)

    def commit(self, faults):
        return self.commit_done if self.change(faults, 2) else None

    def commit_done(self):
        self.again()
        self.commit_ready()

    def commit_end(self):
        self.again()
        self.device.remove()

    # State 1: first writes, moves, a full log block, discards. No error; and back to the checkpoint.
    # Each round is the same, on a checkpoint of its own. Blocks of a sector, so that there are many.

    FREE = 24000, 40000
    # The first is copied with what is around it, the others alone.
    SINGLE = 300, *range(600, 640, 2)
    FIRST = 1000

    def writes_begin(self):
        self.device = Device("bow0", self.args.device, "1 block_size:512")
        self.before = {block: self.device.read(self.args.device, block) for block in self.writes_touch()}
        self.writes_ready()

    def writes_touch(self):
        """What is not free and is written."""
        return [0, *self.SINGLE, *range(self.FIRST, self.FIRST + 4), *range(1100, 1100 + MANY), 2050]

    def writes_ready(self):
        """A log block that has room for a few entries more."""
        dev = self.device
        dev.written = {}
        dev.create()
        dev.discard(*self.FREE)
        dev.change(1)
        for block in self.SINGLE:
            if int(dev.status()[6]) < LOG_ENTRIES - 3:
                dev.write(block, self.rng)

    def writes(self, _faults):
        dev, before = self.device, self.device.status()
        # One by one, so that each is a batch of its own; then a rewrite, and one of many blocks.
        for block in (self.FIRST, self.FIRST + 3, self.FIRST):
            dev.write(block, self.rng)
        dev.write(1100, self.rng, MANY)
        # Where a page of the map of writable blocks begins.
        dev.write(2050, self.rng)
        # The first block is elsewhere; and what lies there, the first backups, has to move.
        dev.write(0, self.rng)
        dev.write(self.live_block(), self.rng)
        dev.write(0, self.rng)
        dev.discard((self.FIRST + 3) * 8, 8)
        del dev.written[self.FIRST + 3]
        dev.check(dev.node)
        after = dev.status()
        if int(after[5]) == int(before[5]) or int(after[7]) == int(before[7]):
            raise Wrong(f"no log block was full, or no backup has moved: {before} became {after}")
        return self.writes_done

    def live_block(self):
        """Where the log says that the relocated first block is."""
        return struct.unpack_from("<Q", self.device.read(self.device.path, 0), 20)[0] // 8

    def writes_done(self):
        """Rolls back, and begins anew."""
        dev = self.device
        dev.check(dev.node)
        dev.remove()
        result = subprocess.run(["bowctl", "restore", dev.path], capture_output=True, text=True, check=False)
        if result.returncode:
            raise Wrong(f"bowctl restore: {result.returncode} {result.stdout} {result.stderr}")
        dev.check(dev.path, self.before)
        self.writes_ready()

    def writes_end(self):
        self.device.remove()

    # State 0: no write fails, and what is not free is never taken for free.

    def track_begin(self):
        self.device.create()

    def track(self, _faults):
        at = 2000 + self.fresh * 37 % 9000
        self.fresh += 1
        free = int(self.device.status()[2])
        self.device.discard(at, 23)
        after = int(self.device.status()[2])
        if not free <= after <= free + 23:
            raise Wrong(f"free space was {free}, and is {after} after a discard of 23 sectors")
        # In the middle of what is free, so that it falls into two.
        block = (at + 23 // 2) // 8
        self.device.write(block, self.rng)
        left = int(self.device.status()[2])
        if left > after or left == after > free:
            raise Wrong(f"free space was {after}, and is {left} after a write into it")

    def track_end(self):
        self.device.check(self.device.node)
        self.device.remove()

    def run(self, command):
        """For each kind, each k until the command runs without meeting the fault."""
        getattr(self, command + "_begin")()
        for kind in KINDS:
            faults = Faults(kind, self.count_up)
            hits = 0
            while True:
                if hits == self.args.most:
                    raise Wrong(f"{command}: no end of it after {hits} faults of {kind}")
                try:
                    faults.arm(hits + 1)
                    try:
                        follows = getattr(self, command)(faults)
                    finally:
                        hit = faults.fired()
                        faults.disarm()
                    if follows:
                        follows()
                except Exception as error:
                    raise Wrong(f"{command}, {kind} number {hits + 1}: {error!r}") from error
                if not hit:
                    break
                hits += 1
                if hits % 50 == 0:
                    os.write(self.args.progress, f"# {command}: {hits} faults of {kind}\n".encode())
            with open(self.args.summary, "a", encoding="ascii") as file:
                file.write(f"{command} {kind} {hits}\n")
        getattr(self, command + "_end")()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--device", required=True)
    parser.add_argument("--other", required=True, help="a device for what counts up")
    parser.add_argument("--companion", help="a device for one that is there meanwhile")
    parser.add_argument("--summary", required=True)
    parser.add_argument("--progress", type=int, default=2, help="an open file, by number")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=1000, help="allocations of each kind")
    args = parser.parse_args()
    sweep = Sweep(args)
    try:
        for command in args.commands:
            sweep.run(command)
    except Wrong as wrong:
        print(wrong)
        sweep.device.mapper.remove()
        sys.exit(1)


if __name__ == "__main__":
    main()
