#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Prints, for each fault in a kernel's log (standard input), where in the module
it came up: the innermost of its functions in the stack trace."""

import re
import sys


frame = re.compile(r"(\S+)\+0x([0-9a-f]+)/0x[0-9a-f]+ \[dm_bow\]")
waiting = False
for line in sys.stdin:
    if "FAULT_INJECTION: forcing a failure" in line:
        waiting = True
    elif waiting and "</TASK>" in line:
        waiting = False
    elif waiting and "? " not in line:
        found = frame.search(line)
        if found:
            print(f"{found.group(1)}+0x{found.group(2)}")
            waiting = False
