# SPDX-License-Identifier: GPL-2.0
"""Device mapper by its ioctls: no process for each request, and words that no tool would pass on."""

import errno
import fcntl
import os
import struct
import time

HEADER = struct.Struct("=3I 3I i 3I Q 128s 129s 7s")
SPEC = struct.Struct("=QQiI16s")
MESSAGE = struct.Struct("=Q")
SIZE = 65536
# Commands and flags of <linux/dm-ioctl.h>.
CREATE, REMOVE, SUSPEND, LOAD, CLEAR, STATUS, MESSAGE_TO = 3, 4, 6, 9, 10, 12, 14
READ_ONLY, SUSPENDED, AS_TABLE, NOFLUSH = 1, 2, 16, 2048
# <linux/fs.h>
BLKDISCARD = 0x1277


class Mapper:
    """A mapped device of that name. Everything raises OSError."""

    def __init__(self, name):
        self.name = name.encode()
        self.control = os.open("/dev/mapper/control", os.O_RDWR)

    def ask(self, command, flags=0, targets=0, data=b""):
        """The whole answer."""
        head = HEADER.pack(4, 0, 0, SIZE, HEADER.size, targets, 0, flags, 0, 0, 0, self.name, b"", b"")
        buffer = bytearray((head + data).ljust(SIZE, b"\0"))
        number = (3 << 30) | (HEADER.size << 16) | (0xFD << 8) | command
        fcntl.ioctl(self.control, number, buffer, True)
        return bytes(buffer)

    def load(self, sectors, line, flags=0, begin=0):
        words = line[:SIZE - 4096] + b"\0"
        words += b"\0" * (-len(words) % 8)
        spec = SPEC.pack(begin, sectors, 0, SPEC.size + len(words), b"bow")
        self.ask(LOAD, flags, 1, spec + words)

    def resume(self):
        self.ask(SUSPEND)

    def line(self, flags=0):
        """The status line of the first target, or with AS_TABLE its table line."""
        answer = self.ask(STATUS, flags)
        return answer[HEADER.unpack_from(answer)[4] + SPEC.size:].split(b"\0")[0]

    def number(self):
        """Major and minor, or None when there is no such device."""
        try:
            dev = HEADER.unpack_from(self.ask(STATUS))[10]
        except OSError as error:
            if error.errno == errno.ENXIO:
                return None
            raise
        return (dev >> 8) & 0xFFF, (dev & 0xFF) | (dev >> 12) & 0xFFF00

    def block_device(self):
        return f"/dev/dm-{self.number()[1]}"

    def folder(self):
        """In sysfs, or None when the device has none."""
        path = f"/sys/block/dm-{self.number()[1]}/bow"
        return path if os.path.isdir(path) else None

    def remove(self):
        """Whoever looked at it a moment ago may still hold it."""
        for _ in range(50):
            try:
                self.ask(REMOVE)
                return True
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return True
                time.sleep(0.1)
        return False


def sectors_of(device):
    fd = os.open(device, os.O_RDONLY)
    try:
        return os.lseek(fd, 0, os.SEEK_END) // 512
    finally:
        os.close(fd)


def discard(device, first_byte, count):
    fd = os.open(device, os.O_RDWR)
    try:
        fcntl.ioctl(fd, BLKDISCARD, struct.pack("=QQ", first_byte, count))
    finally:
        os.close(fd)
