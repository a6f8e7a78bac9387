# SPDX-License-Identifier: GPL-2.0
"""Without a checkpoint, an initramfs that cannot go on leaves a person a shell, as it would without dm-bow."""

START = "enabled"


def run(t):
    t.boot()
    t.run("sed -i 's,panic=30$,& rootfstype=vfat,' /boot/grub/grub.cfg && grep -q rootfstype=vfat /boot/grub/grub.cfg && sync")
    t.machine.send("systemctl reboot")
    shell = t.machine.expect(r"\(initramfs\)|reboot: Restarting system\s[^$]*Rebooting automatically", 600, "a shell")
    t.check("a shell, and no reboot by itself", "initramfs" in shell.group(0), shell.group(0))
