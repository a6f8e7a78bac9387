# SPDX-License-Identifier: GPL-2.0
"""A unit hangs the boot: at the deadline the machine goes back."""

START = "enabled"


def run(t):
    t.boot()
    t.run("echo DEADLINE=240 >>/etc/bow.conf && update-initramfs -u", 600)
    t.update("boot-hangs")
    t.comes_back()
    t.old_system("in time")
    t.finish()
