# SPDX-License-Identifier: GPL-2.0
"""Makes packages of the next version of a kernel, or of modules for it, from those of a version that there is.

In all files and scripts the version becomes another one, in the compressed kernel and in each module too, so that a
module for one does not load into the other. Runs inside the build root, with zstd.
"""

import lzma
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

def run(*command, **more):
    return subprocess.run([str(word) for word in command], check=True, **more)


def later(text, steps):
    """Returns TEXT with a later version than its first x.y.z, and of the same length."""
    number = re.match(r"(\d+)\.(\d+)\.(\d+)", text)
    digits = "".join(number.groups())
    raised = str(int(digits) + steps).zfill(len(digits))
    parts = []
    for part in number.groups():
        parts.append(raised[:len(part)])
        raised = raised[len(part):]
    return ".".join(parts) + text[number.end():]


def section(elf, wanted):
    """Returns where a section of an ELF file is, and how long it is."""
    table, = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3a)
    sections = [struct.unpack_from("<IIQQQQ", elf, table + number * size) for number in range(count)]
    for name, _, _, _, offset, length in sections:
        start = sections[names][4] + name
        if elf[start:elf.index(0, start)] == wanted:
            return offset, length
    raise SystemExit(f"the kernel has no section {wanted.decode()}")


class Change:
    """The replacements that make one kernel of another. All keep the length of what they replace."""

    def __init__(self, release, version, steps, panics=False):
        upstream = re.match(r"\d+\.\d+\.\d+", release).group()
        self.release = later(release, steps)
        # A version with letters in between, such as 7.3.4-1~bpo13+1, does not hold the release.
        self.pairs = [(release, self.release), (version, later(version, steps)), (upstream, later(upstream, steps))]
        self.panics = panics

    def text(self, text):
        for old, new in self.pairs:
            text = text.replace(old, new)
        return text

    def bytes(self, data):
        for old, new in self.pairs[:1]:
            data = data.replace(old.encode(), new.encode())
        return data

    def kernel(self, path):
        """Replaces the compressed part of a bzImage: it is unpacked, changed, packed, and put into its place."""
        image = bytearray(path.read_bytes())
        setup = (image[0x1f1] or 4) + 1
        offset, length = struct.unpack_from("<II", image, 0x248)
        start = setup * 512 + offset
        # The last four bytes are the unpacked length.
        packed = bytes(image[start:start + length - 4])
        data = run("zstd", "-dcq", input=packed, stdout=subprocess.PIPE).stdout
        new = self.bytes(data)
        if new == data:
            raise SystemExit(f"{path} does not hold the release that is looked for")
        # What is packed anew must not be longer. So something is given up: the tables by which a stack is shown.
        start_of, size_of = section(new, b".orc_unwind")
        new = new[:start_of] + bytes(size_of) + new[start_of + size_of:]
        if self.panics:
            # The names of the first process, in an initramfs and elsewhere, and of the last resort.
            for name in (b"/init\0", b"/etc/init\0", b"/bin/init\0", b"/bin/sh\0"):
                new = new.replace(b"\0" + name, b"\0" + name.replace(b"i", b"?").replace(b"sh", b"??"))
                new = new.replace(b"/sbin" + name, b"/sbin" + name.replace(b"i", b"?"))
        assert len(new) == len(data)
        for level in ("-18", "-22"):
            repacked = run("zstd", level, "--ultra", "-T1", "--no-check", "-cq", input=new,
                           stdout=subprocess.PIPE).stdout
            if len(repacked) <= len(packed):
                break
        else:
            raise SystemExit(f"the changed kernel is {len(repacked) - len(packed)} bytes too long to be put back")
        image[start:start + len(packed)] = repacked.ljust(len(packed), b"\0")
        # The name in the head of the image, which tools read.
        head = self.bytes(bytes(image[:setup * 512]))
        image[:setup * 512] = head
        path.write_bytes(image)

    def module(self, path):
        data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        data = self.bytes(data)
        # The signature would not fit any more, and is not asked for.
        mark = b"~Module signature appended~\n"
        if data.endswith(mark):
            size = struct.unpack(">I", data[-len(mark) - 4:-len(mark)])[0]
            data = data[:-len(mark) - 12 - size]
        if path.suffix == ".xz":
            data = lzma.compress(data, check=lzma.CHECK_CRC32, preset=1)
        path.write_bytes(data)

    def file(self, path):
        if path.name == "vmlinuz":
            self.kernel(path)
        elif ".ko" in path.suffixes[-2:]:
            self.module(path)
        elif path.suffix != ".gz":
            data = path.read_bytes()
            try:
                path.write_bytes(self.text(data.decode()).encode())
            except UnicodeDecodeError:
                path.write_bytes(self.bytes(data))

    def package(self, deb, folder):
        tree = folder / "tree"
        run("dpkg-deb", "-R", deb, tree)
        shutil.rmtree(tree / "usr/share/doc", ignore_errors=True)
        # A package that has no file of its own is taken for replaced by those that have its folders.
        own = tree / "usr/share/doc" / self.text(deb.name.split("_")[0])
        own.mkdir(parents=True)
        (own / "copyright").write_text("That of the package that this one was made of.\n")
        shutil.rmtree(tree / "usr/share/bug", ignore_errors=True)
        (tree / "DEBIAN/md5sums").unlink(missing_ok=True)
        for root, folders, files in os.walk(tree, topdown=False):
            for name in files + folders:
                path = Path(root, name)
                if path.is_file() and not path.is_symlink():
                    self.file(path)
                if self.text(name) != name:
                    path.rename(path.with_name(self.text(name)))
        run("dpkg-deb", "-Zgzip", "-z1", "--root-owner-group", "-b", tree, folder, stdout=subprocess.DEVNULL)
        shutil.rmtree(tree)
