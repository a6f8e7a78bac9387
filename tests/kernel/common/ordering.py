#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""ordering.py TRACE DEVICE FREE WRITES: the order of what a first write costs.

TRACE has the block_bio_queue and block_bio_complete events of DEVICE (as it is
written there), the one below bow, from a time at which WRITES first writes went
to sectors before FREE, one after the other; all from FREE on was free. Before
the data of each may be sent, its old contents must have been read, the backup
must be complete, and after that the log, both written with FUA, and without a
flush, which would be of what others have written.
"""

import re
import sys

EVENT = re.compile(r"block_bio_(queue|complete): (\S+) (\S+) (?:\(.*?\) )?(\d+) \+ (\d+) \[")

LOG_SECTORS = 8


def main():
    path, device, free, writes = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    read = set()  # sectors whose old contents have been read
    logged = set()  # sectors of which a log that is complete knows the backup
    backups = 0  # complete since the last log
    backups_under_way = set()
    seen = 0
    with open(path, errors="replace") as trace:
        for line in trace:
            event = EVENT.search(line)
            if not event or event[2] != device:
                continue
            queued, flags = event[1] == "queue", event[3]
            sector, sectors = int(event[4]), int(event[5])
            span = range(sector, sector + sectors)
            if "W" not in flags:
                if "R" in flags and not queued:
                    read.update(span)
            elif 0 < sector < LOG_SECTORS:
                pass  # the log may come in two pieces; the one with sector 0 counts
            elif queued and (sector == 0 or sector >= free) and not re.match("W.*F", flags):
                sys.exit(f"a backup or the log without FUA, or with a flush: {line}")
            elif sector == 0 and queued:
                if not backups or backups_under_way:
                    sys.exit(f"the log before the backup was there: {line}")
            elif sector == 0:
                logged |= read
                backups = 0
            elif sector >= free and queued:
                backups_under_way.add(sector)
            elif sector >= free:
                backups_under_way.discard(sector)
                backups += 1
            elif queued:
                if not logged.issuperset(span):
                    sys.exit(f"data before the log knew its backup: {line}")
                seen += 1
    if seen != writes:
        sys.exit(f"{seen} first writes in the trace, not {writes}")


main()
