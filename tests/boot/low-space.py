# SPDX-License-Identifier: GPL-2.0
"""The update goes on and on, and leaves less than FREE_LOW for backups: the machine goes back before all is used up."""

import re

START = "enabled"
REASON = r"[0-9.]+ MiB were left for backups"


def run(t):
    t.boot()
    t.update("low-space")
    reason = t.comes_back()
    t.check("the console says why, and not what came of it", re.fullmatch(REASON, reason.strip()), reason)
    t.old_system(REASON)
    t.off()
