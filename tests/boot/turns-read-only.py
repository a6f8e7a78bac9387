# SPDX-License-Identifier: GPL-2.0
"""The root file system turns read-only in mid-update: the machine goes back, and says what failed."""

START = "enabled"
EXPECTED = r"EXT4-fs error .*( Abort forced by user| Detected aborted journal)"


def run(t):
    t.harm("turns-read-only", "apt-get -q -y full-upgrade: exit status")
    t.check("it had turned read-only", "Abort forced by user" in t.machine.console.text)
