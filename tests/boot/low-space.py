# SPDX-License-Identifier: GPL-2.0
"""The update goes on and on, and leaves less than FREE_LOW for backups: the machine goes back before all is used up."""

import re

START = "enabled"
REASON = r"[0-9.]+ MiB were left for backups"


def run(t):
    reason = t.harm("low-space", REASON)
    t.check("the console says why, and not what came of it", re.fullmatch(REASON, reason.strip()), reason)
