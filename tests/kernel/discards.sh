#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Discards: passed down in state 0 unless that is not wanted, free of I/O in state 1, where they give space back.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 15
load_bow

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
before=$(io_below "$dev")
[ -n "$before" ] || bail "I/O is not counted"
check "discards in state 0" exercise free /dev/mapper/bow0 --shred 100 40960+4096
if [ "$(cat "/sys/class/block/$(basename "$(readlink -f "$dev")")/queue/discard_max_bytes")" -gt 0 ]; then
    check "are passed down" test "$before" != "$(io_below "$dev")"
else
    skip "are passed down" "the device takes no discards"
fi
bow_remove bow0 || bail "cannot remove"
bow_create bow0 "$dev" no_discard_passdown || bail "no device"
same "the table says so" no_discard_passdown "$(dmsetup table bow0 | grep -o no_discard_passdown)"
before=$(io_below "$dev")
check "discards in state 0, not passed down" exercise free /dev/mapper/bow0 --shred 100 32768+16384
same "cost no I/O" "$before" "$(io_below "$dev")"
checkpoint bow0 || bail "no checkpoint"

before=$(io_below "$dev")
[ -n "$before" ] || bail "I/O is not counted"
entries=$(bow_field bow0 entries)
discard_free=$(bow_free bow0)
check "a discard of original data in state 1" exercise free /dev/mapper/bow0 --shred 100 8192+8192
same "costs no I/O" "$before" "$(io_below "$dev")"
same "needs no log entry" "$entries" "$(bow_field bow0 entries)"
same "and makes no original data free" "$discard_free" "$(bow_free bow0)"

# What was free at the checkpoint, then written, then discarded, is free again.
check "writes to free space" exercise run /dev/mapper/bow0 --range 32768+4096 --mix write=1 --max 64 --ops 200
written=$(bow_free bow0)
check "took some" test "$written" -lt "$discard_free"
exercise free /dev/mapper/bow0 32768+4096 >/dev/null || bail "cannot discard"
check "and a discard gives it back" test "$(bow_free bow0)" -gt "$written"
bow_remove bow0 || bail "cannot remove"
both_readers "discarded" "$dev" as_saved
