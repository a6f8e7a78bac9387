# SPDX-License-Identifier: GPL-2.0
"""The kernel panics in the initramfs, before dm-bow has its turn there: the machine comes back by itself."""

START = "enabled"
PANICS = True


def run(t):
    t.harm("initramfs-panics", "did not become healthy", boots=3, limit=3600)
