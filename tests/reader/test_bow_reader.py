#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Tests of bow_reader.py on images made by a writer of their own.

The writer below is a second, slow reading of the format: its CRC is bit by bit
and it keeps no state but the image, the snapshot and the list of free blocks.
"""

import contextlib
import io
import os
import random
import struct
import tempfile
import unittest

import bow_reader

SECTOR = 512


def crc_bits(data, seed):
    crc = seed & 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    return crc


def leb128(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


class Writer:
    """What a device in state 1 looks like on disk, block by block."""

    def __init__(self, rng, block_size, blocks, free, header_size=28, version=0x0100, tail=0):
        self.rng, self.bs, self.spb = rng, block_size, block_size // SECTOR
        self.header_size, self.version = header_size, version
        self.blocks = blocks + bool(tail)
        self.image = bytearray(rng.randbytes(block_size * blocks + tail))
        self.snapshot = bytes(self.image)
        self.free0 = set(free)
        self.free = list(free)
        self.saved = set()  # original blocks that are backed up, or were free
        self.backups = {}  # block that holds a backup -> True
        self.entries = []
        self.sequence = 0
        self.map = (0, 0, 0)
        self.granted = set()  # free blocks that the file system was given
        self.new = set()  # sectors that the file system has written
        self.live = self.take()
        self.put(self.live, self.get(0))
        first = self.take()
        self.put(first, self.get(0))
        self.backups[first] = True
        if version == 0x0102:
            self.write_map()
        self.add(0, first)
        self.write_log()

    def get(self, block, n=1):
        # Zeroes where the end of the device cuts off the last block.
        return bytes(self.image[block * self.bs : (block + n) * self.bs]).ljust(n * self.bs, b"\0")

    def put(self, block, data):
        there = len(self.image) - block * self.bs
        self.image[block * self.bs : block * self.bs + len(data)] = data[:there]

    def take(self):
        return self.free.pop(self.rng.randrange(len(self.free)))

    def write_map(self):
        """Write the free map, a few extents in each of its blocks."""
        extents = []
        for block in sorted(self.free0):
            if extents and extents[-1][1] == block:
                extents[-1][1] += 1
            else:
                extents.append([block, block + 1])
        while extents:
            part, extents = extents[:7], extents[7:]
            position = start = self.rng.randint(0, part[0][0]) if not self.map[0] else self.end
            raw = struct.pack("<QIIQ", self.map[0], self.map[2], len(part), start)
            for begin, end in part:
                raw += leb128(begin - position) + leb128(end - begin)
                position = self.end = end
            place = self.take()
            self.backups[place] = True
            self.put(place, raw.ljust(self.bs, b"\0"))
            self.map = (place * self.spb, self.map[1] + 1, crc_bits(self.get(place), place))

    def grant(self, block):
        """Give the file system what is free around a block."""
        size = 1 << self.rng.randrange(4)
        first = block // size * size
        self.room()
        self.entries.append((first * self.spb, (first + size) * self.spb, 0, 0))
        self.write_log()
        for block in range(first, first + size):
            if block in self.free:
                self.free.remove(block)
                self.granted.add(block)

    def add(self, source, dest, blocks=1, plain=False):
        """Append an entry; the data must be at dest already."""
        self.room()
        crc = 0 if plain else crc_bits(self.get(dest, blocks), source)
        self.entries.append((source * self.spb, dest * self.spb, blocks * self.bs, crc))
        self.write_log()

    def room(self):
        """Begin another log block if this one is full."""
        area = 512 if self.version == 0x0102 else self.bs
        full = (area - self.header_size) // 24
        if len(self.entries) == full:
            # The log block on the device is this one: save it and start the next.
            place = self.take()
            self.put(place, self.get(0))
            self.backups[place] = True
            self.sequence += 1
            self.entries = []
            self.add(0, place)

    def write_log(self):
        head = struct.pack(
            "<IHHIIIQ", 0x00574F42, self.version, self.header_size, self.bs,
            len(self.entries), self.sequence, self.live * self.spb,
        )
        if self.version == 0x0102:
            head = head.ljust(56, b"\xa5") + struct.pack("<QII", *self.map) + bytes(8)
        head += b"\xa5" * (self.header_size - len(head))
        body = b"".join(struct.pack("<QQII", *e) for e in self.entries)
        self.put(0, (head + body).ljust(self.bs, b"\0"))

    def write(self, block, data):
        """A file system's write of one block in state 1."""
        self.new.update(data[at : at + SECTOR] for at in range(0, len(data), SECTOR))
        if self.map[0] and block in self.free:
            self.grant(block)
        if block == 0:
            self.put(self.live, data)
            return
        if block == self.live or self.backups.pop(block, False):
            place = self.take()
            self.put(place, self.get(block))
            plain = block == self.live
            if plain:
                self.live = place
            else:
                self.backups[place] = True
            self.add(block, place, plain=plain)
        elif block in self.free:
            self.free.remove(block)
        elif block not in self.saved and block not in self.free0:
            place = self.take()
            self.put(place, self.get(block))
            self.backups[place] = True
            self.add(block, place)
        self.saved.add(block)
        self.put(block, data)

    def kept(self):
        """The device after a commit."""
        out = bytearray(self.image)
        out[: self.bs] = self.get(self.live)
        return bytes(out)


class ReaderTest(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        self.addCleanup(self.dir.cleanup)
        self.path = os.path.join(self.dir.name, "image")

    def run_reader(self, image, *args):
        """Run the reader on image; return (status, output, what it left)."""
        with open(self.path, "wb") as f:
            f.write(image)
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            status = bow_reader.main([*args, self.path])
        with open(self.path, "rb") as f:
            return status, out.getvalue(), f.read()

    def assert_rolled_back(self, writer, image):
        for block in range(len(writer.snapshot) // writer.bs):
            if block not in writer.free0:
                at = slice(block * writer.bs, (block + 1) * writer.bs)
                self.assertEqual(writer.snapshot[at], image[at], f"block {block}")
        tail = len(writer.snapshot) // writer.bs * writer.bs
        self.assertEqual(writer.snapshot[tail:], image[tail:])

    def assert_clean(self, writer, image):
        """Nothing that the file system wrote is left in what was free."""
        for block in writer.free0:
            for at in range(block * writer.bs, (block + 1) * writer.bs, SECTOR):
                self.assertNotIn(bytes(image[at : at + SECTOR]), writer.new, f"block {block}")

    def assert_refused(self, image, words, *args):
        status, out, left = self.run_reader(image, *(args or ("restore",)))
        self.assertEqual(status, 1, out)
        self.assertIn(words, out)
        self.assertEqual(bytes(image), left, "a refused log must not be written to")

    def busy(self, seed, block_size=512, writes=150, **kw):
        rng = random.Random(seed)
        free = rng.sample(range(1, 400), 300)
        writer = Writer(rng, block_size, 400, free, **kw)
        for _ in range(writes):
            if len(writer.free) < 5:
                break
            writer.write(rng.randrange(writer.blocks), rng.randbytes(block_size))
        return writer

    def test_checksum_is_the_polynomial_of_the_format(self):
        # The published check value of the usual CRC-32 pins polynomial and direction.
        self.assertEqual(crc_bits(b"123456789", 0xFFFFFFFF) ^ 0xFFFFFFFF, 0xCBF43926)
        data = random.Random(1).randbytes(4096)
        for source in (0, 8, 8 << 32, 0x7FFFFFFF8):
            self.assertEqual(
                bow_reader.checksum(data, source, 4096), crc_bits(data, source // 8)
            )

    def test_restore_of_random_histories(self):
        moved = chained = 0
        for seed in range(20):
            writer = self.busy(seed)
            status, out, image = self.run_reader(writer.image, "restore")
            self.assertEqual(status, 0, out)
            self.assert_rolled_back(writer, image)
            chained += writer.sequence
            moved += sum(e[0] // writer.spb in writer.free0 for e in writer.entries)
        self.assertGreater(chained, 20, "the histories must fill log blocks")
        self.assertGreater(moved, 5, "the histories must move backups")

    def test_every_block_size(self):
        for block_size in (512, 1024, 2048, 4096):
            writer = self.busy(block_size, block_size, writes=60)
            status, out, image = self.run_reader(writer.image, "restore")
            self.assertEqual(status, 0, out)
            self.assert_rolled_back(writer, image)

    def test_last_block_is_cut_off(self):
        for block_size, tail in ((1024, 512), (4096, 512), (4096, 3584)):
            writer = self.busy(tail, block_size, writes=60, tail=tail)
            writer.write(400, writer.rng.randbytes(block_size))
            self.assertNotEqual(writer.snapshot[-tail:], writer.image[-tail:])
            status, out, image = self.run_reader(writer.image, "restore")
            self.assertEqual(status, 0, out)
            self.assertEqual(len(image), len(writer.snapshot))
            self.assert_rolled_back(writer, image)
            status, _, image = self.run_reader(writer.image, "restore", "--keep")
            self.assertEqual((status, image), (0, writer.kept()))
            # The block after it is not on the device, and it holds no backups.
            for offset, sector in ((0, 401 * writer.spb), (8, 400 * writer.spb)):
                bad = bytearray(writer.image)
                struct.pack_into("<Q", bad, 28 + 24 + offset, sector)
                self.assert_refused(bad, "past the end")

    def test_longer_header_and_other_version(self):
        writer = self.busy(5, header_size=100, version=0x0101)
        status, out, image = self.run_reader(writer.image, "restore")
        self.assertEqual(status, 0, out)
        self.assert_rolled_back(writer, image)

    def test_free_space_is_zeroed(self):
        grants = moved = chained = 0
        for seed in range(20):
            size = (512, 1024, 4096)[seed % 3]
            writer = self.busy(seed, size, 60, header_size=80, version=0x0102, tail=seed % 2 * 512 % size)
            self.assertGreater(writer.map[1], 2)
            status, out, image = self.run_reader(writer.image, "restore")
            self.assertEqual(status, 0, out)
            self.assertNotIn(" 0 sectors zeroed", out)
            self.assert_rolled_back(writer, image)
            self.assert_clean(writer, image)
            status, out, image = self.run_reader(writer.image, "list")
            grants += out.count("grant from")
            chained += writer.sequence
            moved += sum(e[2] > 0 and e[0] // writer.spb in writer.free0 for e in writer.entries)
            # An older reader leaves it there.
            old = bytearray(writer.image)
            struct.pack_into("<H", old, 4, 0x0101)
            status, out, image = self.run_reader(old, "restore")
            self.assertIn(" 0 sectors zeroed", out)
            self.assert_rolled_back(writer, image)
            self.assertRaises(AssertionError, self.assert_clean, writer, image)
        self.assertGreater(grants, 100)
        self.assertGreater(moved, 5)
        self.assertGreater(chained, 20)

    def test_a_damaged_free_map_is_noticed(self):
        writer = self.busy(12, 1024, writes=5, header_size=80, version=0x0102)
        places = [b for b in writer.backups if b * writer.spb == writer.map[0]]
        self.assertEqual(len(places), 1, "the first block of the map is where it was")
        writer.image[writer.map[0] * SECTOR + 30] ^= 1
        self.assert_refused(writer.image, "wrong checksum", "verify")
        status, out, image = self.run_reader(writer.image, "restore")
        self.assertEqual(status, 0, out)
        self.assertIn("nothing is zeroed", out)
        self.assert_rolled_back(writer, image)

    def test_keep(self):
        writer = self.busy(6)
        status, _, image = self.run_reader(writer.image, "restore", "--keep")
        self.assertEqual((status, image), (0, writer.kept()))

    def test_verify_and_list_write_nothing(self):
        writer = self.busy(7)
        for command in ("verify", "list"):
            status, out, image = self.run_reader(writer.image, command)
            self.assertEqual((status, image), (0, bytes(writer.image)))
            self.assertIn(f"log block{'s' if command == 'verify' else f' {writer.sequence}'}", out)

    def test_entry_of_several_blocks_and_of_none(self):
        writer = Writer(random.Random(8), 1024, 64, range(43, 64))
        writer.free0.update((40, 41, 42))
        writer.put(40, writer.get(10, 3))
        writer.add(10, 40, 3)
        writer.entries.append((99999999, 88888888, 0, 77))
        writer.write_log()
        writer.put(10, b"n" * 3072)
        status, out, image = self.run_reader(writer.image, "restore")
        self.assertEqual(status, 0, out)
        self.assert_rolled_back(writer, image)

    def test_half_restored(self):
        # What a cut leaves: the last entry copied back, the log marked and cut by one.
        writer = self.busy(9, writes=40)
        source, dest, size, _ = writer.entries.pop()
        writer.image[source * SECTOR : source * SECTOR + size] = writer.image[
            dest * SECTOR : dest * SECTOR + size
        ]
        writer.write_log()
        writer.image[:4] = struct.pack("<I", 0x00424F57)
        self.assert_refused(writer.image, "under way", "restore", "--keep")
        status, out, image = self.run_reader(writer.image, "restore")
        self.assertEqual(status, 0, out)
        self.assert_rolled_back(writer, image)

    def test_bad_logs_are_refused_and_left_alone(self):
        good = bytes(self.busy(10).image)

        def patched(offset, fmt, value):
            image = bytearray(good)
            struct.pack_into(fmt, image, offset, value)
            return image

        self.assert_refused(patched(0, "<I", 0), "magic")
        self.assert_refused(patched(6, "<H", 27), "header size")
        self.assert_refused(patched(8, "<I", 8192), "block size")
        self.assert_refused(patched(12, "<I", 21), "do not fit")
        self.assert_refused(patched(12, "<I", 0), "entry 0")
        self.assert_refused(patched(16, "<I", 77), "belongs")
        self.assert_refused(patched(20, "<Q", 1 << 40), "sector0")
        self.assert_refused(patched(28 + 8, "<Q", 400), "past the end")
        self.assert_refused(patched(28 + 8, "<Q", 1 << 63), "past the end")
        self.assert_refused(patched(28 + 16, "<I", 500), "no multiple")
        self.assert_refused(patched(28 + 20, "<I", 12345), "checksum")
        self.assert_refused(good[:10], "shorter")

    def test_a_changed_backup_is_noticed(self):
        writer = self.busy(11)
        _, dest, size, _ = writer.entries[0]
        writer.image[dest * SECTOR + size - 1] ^= 1
        self.assert_refused(writer.image, "checksum")


if __name__ == "__main__":
    unittest.main()
