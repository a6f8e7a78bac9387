# SPDX-License-Identifier: GPL-2.0
"""GRUB cannot load the new kernel: it does not wait for a person at its menu, but rolls back at once."""

START = "enabled"


def run(t):
    t.boot()
    t.update("step-2", f"sh -c 'apt-get -q -y full-upgrade && echo none >/boot/vmlinuz-{t.setting.release}'")
    t.comes_back()
    t.old_system("GRUB, which could not load the kernel")
    t.finish()
