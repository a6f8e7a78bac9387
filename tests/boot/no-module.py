# SPDX-License-Identifier: GPL-2.0
"""The new initramfs lacks the module: the update is not armed, and undone at the next boot."""

START = "enabled"


def run(t):
    t.harm("no-module", "the module dm-bow is not in it")
