# SPDX-License-Identifier: GPL-2.0
"""The update fills the disk and fails: the machine goes back."""

START = "enabled"
# Where the file system has no space left the target may have none for backups.
EXPECTED = r"EXT4-fs error .*( IO failure| Detected aborted journal)"


def run(t):
    # The watch over the space may be first.
    t.harm("fills-disk", "apt-get -q -y full-upgrade: exit status|were left for backups")
    t.check("it was full", "No space left on device" in t.machine.shell.text + t.machine.console.text)
