#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# I/O that may not wait gets no EAGAIN from an underlying device that is busy once dm-bow has taken it.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 5
load_bow

dev=$(slice data 32768)
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 8M -l 2M /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"

# nowait read|write SECTOR: one block with RWF_NOWAIT, past the page cache.
nowait() {
    python3 -I -S - "$@" <<'END'
import mmap, os, sys
way, sector = sys.argv[1], int(sys.argv[2])
fd = os.open("/dev/mapper/bow0", os.O_RDWR | os.O_DIRECT)
with mmap.mmap(-1, 4096) as block:
    if way == "write":
        block[:] = b"n" * 4096
        done = os.pwritev(fd, [block], sector * 512, os.RWF_NOWAIT)
    else:
        done = os.preadv(fd, [block], sector * 512, os.RWF_NOWAIT)
sys.exit(done != 4096)
END
}
check "a first write" nowait write 800

# What goes to the first block goes down from the worker, here while the underlying device is suspended, which
# answers EAGAIN to those who may not wait.
for way in write read; do
    dmsetup suspend --noflush --nolockfs "${dev##*/}" || bail "cannot suspend"
    nowait "$way" 0 2>"$work/said" &
    asker=$!
    sleep 1
    check "$way: it waits" kill -0 "$asker"
    dmsetup resume "${dev##*/}"
    status=0
    wait "$asker" || status="$? $(cat "$work/said")"
    same "$way: and succeeds" 0 "$status"
done
