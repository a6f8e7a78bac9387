#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Without space for a backup the write fails with ENOSPC, loudly; rollback stays right.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 13
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" on_full:error || bail "no device"
exercise free /dev/mapper/bow0 20000+2000 >/dev/null || bail "cannot discard"
checkpoint bow0 || bail "no checkpoint"
before=$(events bow0)
dmsetup wait bow0 "$before" >/dev/null &
waiter=$!
klog_mark
check "writes stop with ENOSPC" runs_full exercise run /dev/mapper/bow0 \
    --range 0+16000 --mix write=4,fua=1,read=1 --max 64 --ops 2000
check "an event was raised" test "$(events bow0)" -gt "$before"
woken=still
if timeout 60 tail --pid="$waiter" -f /dev/null; then
    wait "$waiter"
    woken=$?
fi
same "whoever waited for it was woken" 0 "$woken"
check "the kernel's log says so" grep -qiE 'bow.*(space|full)' <<<"$(klog)"
same "status says so" full "$(bow_field bow0 error)"
same "the state is still 1" 1 "$(bow_state bow0)"
check "what was acknowledged is there" exercise verify /dev/mapper/bow0
check "the first block needs no space and can be written" \
    exercise run /dev/mapper/bow0 --range 0+8 --mix write=1 --max 8 --ops 5
check "free space that is left can be trimmed and read" \
    exercise run /dev/mapper/bow0 --mix read=1,discard=1 --ops 100
check "remove" bow_remove bow0
both_readers "full" "$dev" as_saved
