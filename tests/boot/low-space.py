# SPDX-License-Identifier: GPL-2.0
"""The update goes on and on, and leaves less than FREE_LOW for backups: the machine goes back before all is used up."""

START = "enabled"


def run(t):
    t.harm("low-space", r"[0-9.]+ MiB were left for backups")
