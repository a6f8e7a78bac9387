# SPDX-License-Identifier: GPL-2.0
"""The root file system turns read-only in mid-update: the machine goes back, and says what failed."""

START = "enabled"


def run(t):
    t.harm("turns-read-only", "apt-get -q -y full-upgrade: exit status")
