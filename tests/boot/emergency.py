# SPDX-License-Identifier: GPL-2.0
"""A file system of fstab is missing, and the new system comes up in emergency mode: the machine goes back at once."""

START = "enabled"


def run(t):
    t.harm("emergency", "in emergency mode", boots=1)
