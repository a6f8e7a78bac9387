#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A first write's data goes out only after backup and log are durable; flushes reach the disk.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 11
load_bow
trap 'undo >/dev/null 2>&1; null_undo; finish' EXIT

disk=$(null_device cached size=32 cache_size=8) || bail "no null_blk"
same "the disk has a volatile cache" "write back" "$(cat "/sys/block/${disk##*/}/queue/write_cache")"
# A layer of dm-linear, so that the bios are seen as bow sends them.
dev=$(slice data 63488 "$disk" 0) || bail "no slice"
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"

flushes() {
    awk '{ print $16 }' "/sys/block/${disk##*/}/stat"
}

# flushes_reach WHAT: as many as were asked for, at least. Two results.
flushes_reach() {
    local before
    before=$(flushes)
    check "$1: flushes" exercise run /dev/mapper/bow0 --mix flush=1 --ops 10 --depth 1 --no-verify
    check "$1: reach the disk" test $(($(flushes) - before)) -ge 10
}

bow_create bow0 "$dev" block_size:4096 || bail "no device"
exercise free /dev/mapper/bow0 32768+30720 >/dev/null || bail "cannot discard"
flushes_reach "state 0"
checkpoint bow0 || bail "no checkpoint"
flushes_reach "state 1"

# Whole blocks, far apart, one after the other: each is a first write.
trace_on "$dev" block_bio_queue block_bio_complete
for block in {1..40}; do
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=4096 count=1 seek=$((block * 90)) oflag=direct status=none
done
check "the trace is complete" trace_off
check "backup, then log, both with FUA, then data" \
    python3 -I -S "$common/ordering.py" "$work/trace" "$(device_numbers "$dev")" 32768 40
bow_set bow0 2 || bail "no commit"
flushes_reach "state 2"
check "remove" bow_remove bow0
no_log "afterwards" "$dev"
