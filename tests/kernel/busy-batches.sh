#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# While all batches are busy, discards, writes to free space and I/O of the first block do not wait for them. The
# first write to free space waits for a log write of its own.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-delay
plan 12
load_bow

# An I/O of the slow device in ms, and what an emulated CPU may add to it: half, so that one I/O is neither none nor two.
slow=8000 more=4000
sectors=131072 old=69632
dev=$(slice data $sectors)
dd if=/dev/urandom of="$dev" bs=1M count=$((sectors / 2048)) oflag=direct status=none

as_before() {
    [ "$(digest "$1" 0 $old)" = "$before" ]
}

# answered WHAT MIB DISCARD WRITE READ: while first writes from that MiB on keep all batches busy, each of these ends within so many ms.
answered() {
    local what=$1 busy discard='' write read waiting
    : >"$work/busy"
    # A discard of what is not free; a write in the middle of what is free, since backups are at its ends.
    python3 -I -S "$common/busy.py" /dev/mapper/bow0 $(($2 << 20)) $((512 << 10)) $((48 << 20)) >"$work/busy" 2>&1 &
    busy=$!
    while kill -0 $busy 2>/dev/null && [ ! -s "$work/busy" ]; do sleep 0.2; done
    delays 0 0
    wait $busy
    same "$what: the first writes end" 0 $?
    read -r discard write read waiting <"$work/busy"
    [ "${waiting:-0}" -gt 0 ] 2>/dev/null || bail "nothing was busy: $(cat "$work/busy")"
    check "$what: a discard is answered within $3 ms: $discard" test "$discard" -lt "$3"
    check "$what: a write to free space within $4 ms: $write" test "$write" -lt "$4"
    check "$what: a read of the first block within $5 ms: $read" test "$read" -lt "$5"
}

before=$(digest "$dev" 0 $old)
delays 0 0 || bail "no dm-delay"
bow_create bow0 /dev/mapper/test-delay || bail "no device"
blkdiscard -qf -o $((old * 512)) /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"

delays $slow 0
answered "old contents are read" 1 $more $more $((slow + more))
# By now that space is granted.
delays 0 $slow
answered "backups are written" 17 $more $((slow + more)) $more

check "remove" bow_remove bow0
dmsetup remove --retry test-delay
both_readers "afterwards" "$dev" as_before
