#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""An independent reader of the dm-bow log, for the tests to check ours against.

Written from the description of the on-disk format alone, and kept so: it shares
no code and no idea with src/decisions or bowctl. Nothing but the standard library.

    bow_reader.py list IMAGE [--json]   print every log block and entry, newest first
    bow_reader.py verify IMAGE          simulate the restore, check every checksum
    bow_reader.py restore IMAGE         verify, then restore IMAGE in place; free space that the
                                        undone update may have written to is zeroed
    bow_reader.py restore --keep IMAGE  keep the new state: relocated first block back to block 0

It holds what it restores in memory and does not survive being cut off: it is an
oracle for images, not a recovery tool. Exit status: 0 done, 1 the log is bad, 2 usage.
"""

import argparse
import bisect
import json
import os
import struct
import sys
import zlib

SECTOR = 512
MAGIC = 0x00574F42  # "BOW"
MAGIC_RESTORING = 0x00424F57  # "WOB"
HEADER = struct.Struct("<IHHIIIQ")
ENTRY = struct.Struct("<QQII")
# From version 1.2 on, at offset 56: where the free map is, its blocks, its checksum.
FREE_MAP = struct.Struct("<QII")
# Head of a block of the free map: next, its checksum, number of extents, where they begin.
MAP_HEAD = struct.Struct("<QIIQ")


class BadLog(Exception):
    """The log cannot be followed; the message names the block and the reason."""


def checksum(data, source, block_size):
    """CRC-32 without the inversions that zlib makes, seeded with the block number."""
    seed = (source // (block_size // SECTOR)) & 0xFFFFFFFF
    return zlib.crc32(data, seed ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


class Entry:
    def __init__(self, raw, offset):
        self.source, self.dest, self.size, self.checksum = ENTRY.unpack_from(raw, offset)

    def grant(self):
        """The sectors that the entry grants, if its log block is one of version 1.2."""
        return (self.source, self.dest) if self.size == 0 and self.source < self.dest else None

    def as_dict(self):
        return {
            "source": self.source,
            "dest": self.dest,
            "size": self.size,
            "checksum": self.checksum,
        }


class LogBlock:
    """One log block: its header, checked against the device's size, and its entries."""

    def __init__(self, raw, sectors):
        if len(raw) < HEADER.size:
            raise BadLog("the device is shorter than a log header")
        (
            self.magic,
            self.version,
            self.header_size,
            self.block_size,
            self.count,
            self.sequence,
            self.sector0,
        ) = HEADER.unpack_from(raw)
        if self.magic not in (MAGIC, MAGIC_RESTORING):
            raise BadLog(f"no log: magic is {self.magic:#010x}")
        if self.block_size not in (512, 1024, 2048, 4096):
            raise BadLog(f"block size {self.block_size} is none of 512, 1024, 2048, 4096")
        if self.header_size < HEADER.size:
            raise BadLog(f"header size {self.header_size} is below {HEADER.size}")
        end = self.header_size + self.count * ENTRY.size
        if end > self.block_size:
            raise BadLog(
                f"{self.count} entries after a header of {self.header_size} bytes "
                f"do not fit a block of {self.block_size}"
            )
        if len(raw) < self.block_size:
            raise BadLog("the device is shorter than its log block")
        if self.sector0 + self.block_size // SECTOR > sectors:
            raise BadLog(f"sector0 {self.sector0} is past the end of the device")
        self.entries = [
            Entry(raw, self.header_size + i * ENTRY.size) for i in range(self.count)
        ]
        self.has_record = self.version >= 0x0102 and self.header_size >= 80
        self.free_map = FREE_MAP.unpack_from(raw, 56) if self.has_record else (0, 0, 0)

    def first_block(self):
        """The sectors of the relocated first block."""
        return range(self.sector0, self.sector0 + self.block_size // SECTOR)

    def as_dict(self):
        return {
            "restoring": self.magic == MAGIC_RESTORING,
            "header_size": self.header_size,
            "block_size": self.block_size,
            "sequence": self.sequence,
            "sector0": self.sector0,
            "free_map": self.free_map[:2] if self.free_map[0] else None,
            "entries": [e.as_dict() for e in self.entries],
        }


class Image:
    """A device or image file, read through the moves that a simulation has made."""

    def __init__(self, path, writable=False):
        self.file = open(path, "r+b" if writable else "rb", buffering=0)
        self.sectors = self.file.seek(0, os.SEEK_END) // SECTOR
        # Sector -> sector of the untouched device that holds its content now.
        self.moved = {}
        # Sectors of the untouched device whose content a restore needs.
        self.needed = set()

    def read(self, sector, length):
        """Read through the moves; neighbours that stayed together are read at once."""
        out = []
        todo = length // SECTOR
        while todo:
            start = self.moved.get(sector, sector)
            run = 1
            while run < todo and self.moved.get(sector + run, sector + run) == start + run:
                run += 1
            out.append(self.read_raw(start, run * SECTOR))
            sector += run
            todo -= run
        return b"".join(out)

    def read_raw(self, sector, length):
        self.file.seek(sector * SECTOR)
        data = b""
        while len(data) < length:
            part = self.file.read(length - len(data))
            if not part:
                raise BadLog(f"the device ends inside sector {sector}")
            data += part
        return data

    def copy(self, source, dest, count):
        """Simulate the copy of count sectors from dest to source."""
        now = [self.moved.get(dest + i, dest + i) for i in range(count)]
        for i, origin in enumerate(now):
            self.moved[source + i] = origin

    def log_block(self):
        """The log block that block 0 holds after the moves made so far."""
        # The block's size is in its header, so read the smallest one first.
        first = self.read(0, min(SECTOR, self.sectors * SECTOR))
        size = HEADER.unpack_from(first)[3] if len(first) >= HEADER.size else SECTOR
        if size in (1024, 2048, 4096) and size // SECTOR <= self.sectors:
            first = self.read(0, size)
        return LogBlock(first, self.sectors)

    def need(self, sector, count):
        """Note that a restore reads these sectors, as they are by now."""
        self.needed.update(self.moved.get(sector + i, sector + i) for i in range(count))

    def write_moves(self, zeroed):
        """Make the simulated copies real, of a device on which some spans have been zeroed before.

        Everything is read before a byte is written.
        """
        new = {}
        for sector, origin in self.moved.items():
            if sector < self.sectors and origin != sector:
                is_zero = contains(zeroed, origin)
                new[sector] = bytes(SECTOR) if is_zero else self.read_raw(origin, SECTOR)
        for start, end in zeroed:
            while start < end:
                some = min(end - start, 2048)
                self.file.seek(start * SECTOR)
                self.file.write(bytes(some * SECTOR))
                start += some
        for sector, content in sorted(new.items()):
            self.file.seek(sector * SECTOR)
            self.file.write(content)
        os.fsync(self.file.fileno())


def check_entry(image, block, index):
    """Check one entry and return the sectors that it covers (0: a no-op)."""
    entry = block.entries[index]
    where = f"log block {block.sequence}, entry {index}"
    if entry.size == 0:
        return 0
    if entry.size % block.block_size:
        raise BadLog(f"{where}: size {entry.size} is no multiple of {block.block_size}")
    count = entry.size // SECTOR
    # The last block may be cut off by the end of the device; it is never a dest.
    whole = -(-image.sectors * SECTOR // block.block_size) * (block.block_size // SECTOR)
    for name, start, end in (
        ("source", entry.source, whole),
        ("dest", entry.dest, image.sectors),
    ):
        if start + count > end:
            raise BadLog(f"{where}: {name} {start} + {count} is past the end of the device")
    if entry.checksum:
        found = checksum(image.read(entry.dest, entry.size), entry.source, block.block_size)
        if found != entry.checksum:
            raise BadLog(
                f"{where}: sectors {entry.dest} + {count}, saved for {entry.source}, "
                f"have checksum {found:#010x}, not {entry.checksum:#010x}"
            )
    return count


def simulate(image):
    """Run the restore in memory: leaves image.moved, returns the log blocks, newest first.

    Before the newest log block of all, block 0 holds that block; copying entry 0
    of a later one brings the one before it there; entry 0 of the first, the data.
    """
    blocks = []
    while True:
        block = image.log_block()
        if blocks:
            newer = blocks[-1]
            if block.magic != MAGIC:
                raise BadLog(f"log block before {newer.sequence} is marked as half restored")
            if block.block_size != newer.block_size:
                raise BadLog(
                    f"log block {block.sequence} has block size {block.block_size}, "
                    f"not {newer.block_size}"
                )
            if block.sequence != newer.sequence - 1:
                raise BadLog(
                    f"log block {block.sequence} found where {newer.sequence - 1} belongs"
                )
        blocks.append(block)
        first_is_block0 = (
            block.count > 0 and block.entries[0].source == 0 and block.entries[0].size > 0
        )
        if not first_is_block0:
            raise BadLog(f"log block {block.sequence}: entry 0 says nothing about block 0")
        for index in reversed(range(block.count)):
            count = check_entry(image, block, index)
            entry = block.entries[index]
            moves_first_block = (
                index > 0
                and entry.checksum == 0
                and entry.size == block.block_size
                and image.moved.get(entry.dest, entry.dest) == blocks[0].sector0
            )
            if not moves_first_block:
                image.need(entry.dest, count)
            image.copy(entry.source, entry.dest, count)
        if block.sequence == 0:
            return blocks


def number(raw, at):
    """A number of seven bits a byte, the lowest first, and the offset behind it."""
    value = shift = 0
    while True:
        if at >= len(raw):
            raise BadLog("an extent of the free map goes on behind its block")
        value |= (raw[at] & 0x7F) << shift
        shift += 7
        at += 1
        if not raw[at - 1] & 0x80:
            if value >> 64:
                raise BadLog("a number in the free map has more than 64 bits")
            return value, at


def merge(spans):
    """Spans in order, of which none touches another, that have all sectors of these."""
    merged = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return merged


def subtract(spans, others):
    """The part of merged spans that is in none of the others."""
    left, others, at = [], merge(others), 0
    for start, end in merge(spans):
        while at < len(others) and others[at][1] <= start:
            at += 1
        next_one = at
        while next_one < len(others) and others[next_one][0] < end:
            if start < others[next_one][0]:
                left.append([start, others[next_one][0]])
            start = max(start, others[next_one][1])
            next_one += 1
        if start < end:
            left.append([start, end])
    return left


def intersect(spans, others):
    """The part of spans that is in one of the others."""
    return subtract(spans, subtract(spans, others))


def contains(merged, sector):
    """Whether one of these merged spans has the sector."""
    at = bisect.bisect_right(merged, sector, key=lambda span: span[0])
    return at > 0 and sector < merged[at - 1][1]


def free_extents(image, newest):
    """The spans of sectors that were free at the checkpoint. After a simulation."""
    place, left, expected = newest.free_map
    size = newest.block_size
    per_block = size // SECTOR
    limit = image.sectors // per_block
    free = []
    if left > limit:
        raise BadLog(f"a free map of {left} blocks is larger than the device")
    while place or left:
        if not place or not left:
            raise BadLog("the free map has more or fewer blocks than the header says")
        if place % per_block or place + per_block > image.sectors:
            raise BadLog(f"sector {place} cannot be of the free map")
        raw = image.read(place, size)
        if checksum(raw, place, size) != expected:
            raise BadLog(f"the block of the free map of sector {place} has a wrong checksum")
        image.need(place, per_block)
        place, expected, count, start = MAP_HEAD.unpack_from(raw)
        left -= 1
        at, position = MAP_HEAD.size, start
        for _ in range(count):
            gap, at = number(raw, at)
            length, at = number(raw, at)
            first = position + gap
            position = first + length
            if first == 0 or length == 0 or position > limit:
                raise BadLog(f"blocks {first} + {length} of the free map are not free ones")
            free.append((first * per_block, position * per_block))
        limit = min(limit, start)
    return free


def leftovers(image, blocks):
    """The spans that a restore zeroes. After a simulation; blocks are the log blocks."""
    newest = blocks[0]
    if not newest.free_map[0]:
        return []
    per_block = newest.block_size // SECTOR
    free = free_extents(image, newest)
    sources, granted = [], []
    for block in blocks:
        for entry in block.entries:
            sources.append((entry.source, entry.source + entry.size // SECTOR))
            grant = entry.grant() if block.has_record else None
            if grant:
                end = min(-(-grant[1] // per_block) * per_block, image.sectors)
                granted.append((grant[0] // per_block * per_block, end))
    first = newest.first_block()
    spans = subtract(intersect(granted, free), sources) + intersect(
        [(first[0], first[-1] + 1)], free + sources
    )
    needed = [(sector, sector + 1) for sector in image.needed]
    return subtract(spans, needed + [(0, per_block)])


def keep(image):
    block = image.log_block()
    if block.magic == MAGIC_RESTORING:
        raise BadLog("a restore is under way: the new state is gone, finish the restore")
    live = image.read_raw(block.sector0, block.block_size)
    image.file.seek(0)
    image.file.write(live)
    os.fsync(image.file.fileno())
    return block


def print_log(blocks, as_json):
    if as_json:
        json.dump([b.as_dict() for b in blocks], sys.stdout)
        print()
        return
    for block in blocks:
        state = "being restored, " if block.magic == MAGIC_RESTORING else ""
        print(
            f"log block {block.sequence}: {state}block size {block.block_size}, "
            f"header {block.header_size}, {block.count} entries, sector0 {block.sector0}"
        )
        for index, e in enumerate(block.entries):
            if block.has_record and e.grant():
                print(f"  {index}: grant from {e.source} to {e.dest}")
                continue
            print(
                f"  {index}: source {e.source} dest {e.dest} "
                f"size {e.size} checksum {e.checksum:#010x}"
            )


def main(argv=None):
    parser = argparse.ArgumentParser(description="independent reader of the dm-bow log")
    parser.add_argument("command", choices=("list", "verify", "restore"))
    parser.add_argument("image")
    parser.add_argument("--json", action="store_true", help="for list")
    parser.add_argument("--keep", action="store_true", help="restore: keep the new state")
    args = parser.parse_args(argv)
    if (args.keep and args.command != "restore") or (args.json and args.command != "list"):
        parser.error(f"{args.command} does not take that option")

    try:
        image = Image(args.image, writable=args.command == "restore")
        if args.keep:
            block = keep(image)
            print(f"kept: relocated first block back from sector {block.sector0}")
            return 0
        blocks = simulate(image)
        if args.command == "list":
            print_log(blocks, args.json)
            return 0
        entries = sum(b.count for b in blocks)
        try:
            zeroed = leftovers(image, blocks)
        except BadLog as error:
            if args.command != "restore":
                raise
            # The old state comes back all the same.
            print(f"bow_reader: {args.image}: nothing is zeroed: {error}", file=sys.stderr)
            zeroed = []
        if args.command == "restore":
            image.write_moves(zeroed)
        done = "verified" if args.command == "verify" else "restored"
        count = sum(end - start for start, end in zeroed)
        print(f"{done}: {len(blocks)} log blocks, {entries} entries, {count} sectors zeroed")
        return 0
    except (BadLog, OSError) as error:
        print(f"bow_reader: {args.image}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
