# SPDX-License-Identifier: GPL-2.0
"""A copy of the whole disk is connected: neither is guessed to be the right one, and an open checkpoint waits for a person."""

import filecmp

from scenario import copy

START = "enabled"


def both(t):
    """Switches the machine on with a copy of its disk, as it is now, beside it."""
    copy(t.folder / "disk.img", t.folder / "copy.img")
    t.machine.attach("copy", t.folder / "copy.img")
    t.machine.power_on()
    t.machine.expect(r"bow(ctl)?: (/dev/vda2 and /dev/vdd2|/dev/vdd2 and /dev/vda2) have the PARTUUID", 600)


def alone(t):
    """Switches the machine on without the copy."""
    t.machine.detach("copy")
    t.machine.power_on()


def run(t):
    both(t)
    t.booted()
    t.check("the root is mounted without dm-bow", t.output("findmnt -no SOURCE /") in ("/dev/vda2", "/dev/vdd2"))
    refused = t.run("bowctl run -- touch /root/new", check=False)
    t.check("no update begins", refused.status != 0 and t.run("test -e /root/new", check=False).status != 0, refused)
    status = t.run("bowctl root status", check=False)
    t.check("bowctl root status names the PARTUUID", "PARTUUID" in status.output, status)
    t.tell(status.output)
    t.off()

    alone(t)
    t.booted()
    t.same("without the copy the root is the mapped device", "/dev/mapper/bow-root", t.output("findmnt -no SOURCE /"))
    t.run("echo REBOOT=no >>/etc/bow.conf")
    t.remember_files()
    t.run("bowctl run -- sh -c 'echo new >/root/new' && bowctl rollback", 900)
    t.power_cut()

    both(t)
    t.machine.expect("bow: a person has to decide about the checkpoint", 300)
    # Of initramfs-tools, or of dracut.
    t.machine.expect(r"\(initramfs\)|for maintenance", 300, "that there is a shell")
    t.power_cut()
    # Restored or committed, or mounted, the two would differ.
    t.check("nothing was written to either disk",
            filecmp.cmp(t.folder / "disk.img", t.folder / "copy.img", shallow=False))

    alone(t)
    t.comes_back()
    t.same("what was new is gone", "1", t.output("test -e /root/new; echo $?"))
    t.compare_files("all files are what they were")
    t.finish()
