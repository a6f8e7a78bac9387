# SPDX-License-Identifier: GPL-2.0
"""The new kernel panics before its initramfs begins: GRUB counts, and the old kernel rolls back."""

START = "enabled"
PANICS = True


def run(t):
    t.harm("kernel-panics", "did not become healthy", boots=3, limit=3600)
