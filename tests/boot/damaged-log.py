# SPDX-License-Identifier: GPL-2.0
"""The log of an open checkpoint is damaged: nothing is written or mounted, a person has a shell; mended, it is gone by."""

START = "enabled"


def flip(t):
    """Changes a bit of the log's header, or changes it back."""
    with open(t.folder / "disk.img", "r+b") as disk:
        disk.seek(t.setting.root_start * 512 + 24)
        byte = disk.read(1)[0]
        disk.seek(-1, 1)
        disk.write(bytes([byte ^ 1]))


def run(t):
    t.boot()
    t.run("echo REBOOT=no >>/etc/bow.conf")
    t.remember_files()
    t.run("bowctl run -- sh -c 'echo new >/root/new' && bowctl rollback", 900)
    t.power_cut()
    flip(t)
    t.machine.power_on()
    t.machine.expect("bow: a person has to decide about the checkpoint", 600)
    # Of initramfs-tools, or of dracut.
    t.machine.expect(r"\(initramfs\)|for maintenance", 300, "that there is a shell")
    t.machine.watch(60)
    t.check("the machine waits for that person", not t.machine.console.find("a person has to decide"), t.machine.tail())
    t.power_cut()
    flip(t)
    t.machine.power_on()
    t.comes_back()
    t.same("what was new is gone", "1", t.output("test -e /root/new; echo $?"))
    t.compare_files("all files are what they were")
    t.finish()
