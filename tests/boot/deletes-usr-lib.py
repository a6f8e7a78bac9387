# SPDX-License-Identifier: GPL-2.0
"""The update deletes /usr/lib, so that no program runs any more that is not static: the machine comes back."""

START = "enabled"


def run(t):
    t.harm("deletes-usr-lib", "apt-get -q -y full-upgrade: exit status")
