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
import sys

from dm import CREATE, Mapper, discard, sectors_of

BLOCK = 4096
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

    def __init__(self, name, path):
        self.mapper, self.path, self.sectors = Mapper(name), path, sectors_of(path)
        self.buffer = mmap.mmap(-1, BLOCK)
        self.written = {}

    def create(self):
        self.mapper.ask(CREATE)
        try:
            self.mapper.load(self.sectors, self.path.encode())
            self.mapper.resume()
        except OSError:
            self.remove()
            raise

    def remove(self):
        if not self.mapper.remove():
            raise Wrong("cannot be removed")

    def status(self):
        return self.mapper.line().decode().split()

    def state(self):
        return int(self.status()[0])

    def change(self, state):
        put(self.mapper.folder() + "/state", str(state))

    def discard(self, sector, sectors):
        discard(self.mapper.block_device(), sector * 512, sectors * 512)

    def transfer(self, path, block, content=None):
        """Past the page cache. Returns what was read."""
        fd = os.open(path, os.O_RDWR | os.O_DIRECT)
        try:
            if content is None:
                if os.preadv(fd, [self.buffer], block * BLOCK) != BLOCK:
                    raise Wrong("a short read")
                return bytes(self.buffer)
            self.buffer[:] = content
            if os.pwritev(fd, [self.buffer], block * BLOCK) != BLOCK:
                raise Wrong("a short write")
            self.written[block] = content
            return None
        finally:
            os.close(fd)

    def write(self, block, rng):
        self.transfer(self.mapper.block_device(), block, rng.randbytes(BLOCK))

    def check(self, path):
        for block, content in self.written.items():
            if self.transfer(path, block) != content:
                raise Wrong(f"block {block} has other contents than what was written")


def want_enomem(error, faults):
    if not faults.fired():
        raise Wrong(f"failed without a fault: {error}")
    if error.errno != errno.ENOMEM:
        raise Wrong(f"the error is {errno.errorcode[error.errno]}, not ENOMEM")


class Sweep:
    """The commands: each does its thing once, with a fault armed."""

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
        try:
            self.device.create()
        except OSError as error:
            want_enomem(error, faults)
            if self.device.mapper.number():
                raise Wrong("failed, and left a device behind") from error
            return
        if self.device.state() != 0:
            raise Wrong(f"created, but: {self.device.status()}")
        self.device.remove()

    def create_end(self):
        pass

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
            self.device.check(self.device.mapper.block_device())
            return False
        if self.device.state() != state:
            raise Wrong(f"changed to {state}, but: {self.device.status()}")
        return True

    checkpoint_begin = begin

    def checkpoint(self, faults):
        if self.change(faults, 1):
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
        if self.change(faults, 2):
            self.again()
            self.commit_ready()

    def commit_end(self):
        self.again()
        self.device.remove()

    # First writes, moves and discards in state 1, on a device that is in it: no error.

    def writes_begin(self):
        pass

    def writes(self, _faults):
        first = self.args.first + self.fresh * 7 % self.args.blocks
        self.fresh += 1
        dev = self.device
        # One by one, so that each is a batch of its own; then one of many blocks, and a rewrite.
        for block in (first, first + 3, first + 4, first):
            dev.write(block, self.rng)
        # Free space from its begin: backups move out of the way.
        dev.write(self.args.free + self.fresh, self.rng)
        dev.discard((first + 4) * 8, 8)
        dev.written.pop(first + 4, None)
        for block in (first, first + 3, self.args.free + self.fresh):
            if dev.transfer(dev.mapper.block_device(), block) != dev.written[block]:
                raise Wrong(f"block {block} has other contents than what was written")

    def writes_end(self):
        self.device.check(self.device.mapper.block_device())

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
        self.device.check(self.device.mapper.block_device())
        self.device.remove()

    def run(self, command):
        """For each kind, each k until the command runs without meeting the fault."""
        getattr(self, command + "_begin")()
        for kind in KINDS:
            faults = Faults(kind, self.count_up)
            hits = 0
            while hits < self.args.most:
                faults.arm(hits + 1)
                try:
                    getattr(self, command)(faults)
                except Exception as error:
                    raise Wrong(f"{command}, {kind} number {hits + 1}: {error!r}") from error
                finally:
                    hit = faults.fired()
                    faults.disarm()
                if not hit:
                    break
                hits += 1
                if hits % 50 == 0:
                    print(f"# {command}: {hits} faults of {kind}", file=sys.stderr, flush=True)
            with open(self.args.summary, "a", encoding="ascii") as file:
                file.write(f"{command} {kind} {hits}\n")
        getattr(self, command + "_end")()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("commands", nargs="+")
    parser.add_argument("--device", required=True)
    parser.add_argument("--other", required=True, help="a device for what counts up")
    parser.add_argument("--summary", required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--most", type=int, default=1000, help="allocations of each kind")
    parser.add_argument("--first", type=int, default=0, help="of the blocks for writes")
    parser.add_argument("--blocks", type=int, default=1000, help="how many")
    parser.add_argument("--free", type=int, default=0, help="first block of free space")
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
