# SPDX-License-Identifier: GPL-2.0
"""The update fills the disk and fails: the machine goes back."""

START = "enabled"


def run(t):
    t.harm("fills-disk", "apt-get -q -y full-upgrade: exit status")
