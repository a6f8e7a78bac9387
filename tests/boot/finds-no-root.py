# SPDX-License-Identifier: GPL-2.0
"""The new initramfs lacks the driver of the disk and finds no root: it reboots by itself, and GRUB goes back."""

START = "enabled"


def run(t):
    t.harm("finds-no-root", "did not become healthy", boots=3, limit=3600)
