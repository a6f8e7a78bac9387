#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Random table lines, messages and sysfs writes, straight to the kernel.

Talks to device mapper by its ioctls, so that words which no tool would pass on
get there too. What must hold: a line that is refused leaves no device and no
changed byte; the state only ever goes 0, 1, 2; the kernel answers. Exits with 1
and says what was sent when one of these does not hold.
"""

import argparse
import errno
import hashlib
import os
import random
import sys
import time

from dm import AS_TABLE, CLEAR, CREATE, MESSAGE, MESSAGE_TO, NOFLUSH, READ_ONLY, SUSPEND, SUSPENDED, \
    Mapper, discard, sectors_of


def digest(device, skip):
    hasher = hashlib.sha1()
    with open(device, "rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(skip)
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def noise(rng, most):
    kind = rng.randrange(4)
    count = rng.choice([0, 1, 2, 7, 31, 200, most])
    if kind == 0:
        return bytes(rng.randrange(1, 256) for _ in range(count))
    if kind == 1:
        return rng.choice([b"A", b" ", b":", b"%s%n", b"\\", b"\xff"]) * count
    if kind == 2:
        return str(rng.choice([0, -1, 1 << 31, 1 << 32, 1 << 63, (1 << 64) - 1, 1 << 64, 10 ** 40])).encode()
    return bytes(rng.choice(b"0123456789:_-+ .xX\\\t") for _ in range(count))


def argument(rng):
    key = rng.choice([b"block_size", b"on_full", b"block", b"", b"BLOCK_SIZE", noise(rng, 40)])
    value = rng.choice([b"512", b"1024", b"4096", b"4097", b"0", b"-1", b"65536", b"error", b"commit",
                        b"18446744073709551616", b"4096 ", b"\x00", noise(rng, 300)])
    return key + rng.choice([b":", b":", b":", b"=", b"", b"::"]) + value


def table(rng, device):
    path = rng.choice([device.encode()] * 8 + [b"", b"/dev/null", b"/dev/nosuch", b"/", b"7:300",
                                               b"999999:999999", b"4294967295:1", noise(rng, 5000)])
    arguments = [argument(rng) for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3, 20]))]
    if rng.randrange(3):
        arguments = [a for a in arguments if rng.randrange(2)]
    count = rng.choice([len(arguments)] * 6 + [0, 1, -1, 999, 1 << 32])
    words = [path]
    if arguments or rng.randrange(2):
        words.append(rng.choice([str(count).encode()] * 6 + [noise(rng, 30)]))
    words += arguments
    return rng.choice([b" "] * 9 + [b"  "]).join(words)


STATES = [b"0", b"1", b"2", b"1\n", b"2\n", b"3", b"-1", b"", b"\n", b"1 ", b" 1", b"01", b"1\0", b"one", b"1\n1\n"]
WORDS = [b"checkpoint", b"commit", b"Checkpoint", b"checkpoint ", b"commit now", b"", b"@", b"abort", b"2"]


class Fuzzer:
    """One device under random requests, and what it has to look like."""

    def __init__(self, args):
        self.rng = random.Random(args.seed)
        self.device = args.device
        self.mapper = Mapper("bow-fuzz")
        self.sectors = sectors_of(args.device)
        self.counts = {}

    def count(self, what, result):
        key = (what, "taken" if result is None else errno.errorcode.get(result, str(result)))
        self.counts[key] = self.counts.get(key, 0) + 1

    def attempt(self, what, action):
        try:
            action()
            result = None
        except OSError as error:
            result = error.errno
        self.count(what, result)
        return result

    def state(self):
        with open(self.mapper.folder() + "/state", encoding="ascii") as file:
            return int(file.read())

    def fail(self, why, sent):
        print(f"{why}; sent: {sent!r}")
        sys.exit(1)

    def one_table(self):
        """A table line: refused without a trace, or a device that is as it should be."""
        line = table(self.rng, self.device)
        sectors = self.rng.choice([self.sectors] * 6 + [0, 1, self.sectors - 1, self.sectors + 1, 1 << 40])
        begin = self.rng.choice([0] * 9 + [8])
        flags = self.rng.choice([0] * 9 + [READ_ONLY])
        self.mapper.ask(CREATE)
        result = self.attempt("table", lambda: self.mapper.load(sectors, line, flags, begin))
        if result is None:
            result = self.attempt("resume", self.mapper.resume)
        if result is None:
            if not self.mapper.folder():
                self.fail("taken, but has no folder in sysfs", line)
            # What the kernel prints must be taken again.
            self.mapper.load(self.sectors, self.mapper.line(AS_TABLE))
            self.mapper.ask(CLEAR)
        if not self.mapper.remove():
            self.fail("cannot be removed", line)

    def discard(self, device):
        """Of any shape, valid or not, but in the upper half only: the lower one is to be kept."""
        half = self.sectors // 2
        start = (half + self.rng.randrange(half + 9)) * 512 + self.rng.choice([0, 0, 0, 1])
        count = self.rng.randrange(2048) * 512
        self.attempt("discard", lambda: discard(device, start, count))

    def live(self):
        """A device in use: states, messages, reloads, suspends."""
        self.mapper.ask(CREATE)
        self.mapper.load(self.sectors, self.device.encode())
        self.mapper.resume()
        path = self.mapper.folder() + "/state"
        state = 0
        sent = []
        for _ in range(self.rng.randrange(4, 30)):
            kind = self.rng.randrange(7)
            if kind < 3:
                text = self.rng.choice(STATES + [noise(self.rng, 4096)])
                wanted, sent = text.strip(b" \n"), text

                def write():
                    fd = os.open(path, os.O_WRONLY)
                    try:
                        os.write(fd, text)
                    finally:
                        os.close(fd)
                result = self.attempt("state", write)
                after = self.state()
                if after != state and not (result is None and after == state + 1 and wanted == str(after).encode()):
                    self.fail(f"state {state} became {after}, answer {result}", text)
                state = after
            elif kind == 3:
                text = self.rng.choice(WORDS + [noise(self.rng, 3000)])
                sent = text
                result = self.attempt("message", lambda: self.mapper.ask(
                    MESSAGE_TO, 0, 0, MESSAGE.pack(self.rng.choice([0, 0, 0, 1, 1 << 63])) + text + b"\0"))
                after = self.state()
                if after != state and not (result is None and after == state + 1):
                    self.fail(f"state {state} became {after}, answer {result}", text)
                state = after
            elif kind == 4:
                line = table(self.rng, self.device)
                sent = line
                if self.attempt("reload", lambda: self.mapper.load(self.sectors, line)) is None:
                    self.mapper.resume()
                    if self.state() != state:
                        self.fail(f"state {state} became {self.state()}", line)
                else:
                    self.mapper.ask(CLEAR)
            elif kind == 5:
                self.mapper.ask(SUSPEND, SUSPENDED | self.rng.choice([0, NOFLUSH]))
                self.mapper.resume()
            else:
                self.discard(self.mapper.block_device())
        if not self.mapper.remove():
            self.fail("cannot be removed", sent)
        return state


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--summary", required=True)
    args = parser.parse_args()

    fuzzer = Fuzzer(args)
    end = time.monotonic() + args.seconds
    first = digest(args.device, 0)
    rounds = 0
    while time.monotonic() < end:
        for _ in range(12):
            fuzzer.one_table()
        if digest(args.device, 0) != first:
            fuzzer.fail("table lines have changed the device", "")
        if fuzzer.live() == 1:
            if os.system(f"bowctl restore {args.device} >/dev/null 2>&1"):
                fuzzer.fail("bowctl restore failed", "")
        # Discards free space, which backups may have used: only then may it differ.
        first = digest(args.device, 0)
        rounds += 1
    with open(args.summary, "w", encoding="ascii") as file:
        parts = [f"{what} {result} {n}" for (what, result), n in sorted(fuzzer.counts.items())]
        file.write(f"seed {args.seed}, {rounds} rounds, {sum(fuzzer.counts.values())} requests: " + ", ".join(parts) + "\n")


if __name__ == "__main__":
    main()
