#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# While a checkpoint is being taken, status and sysfs show the old state and what is free in it.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-delay
plan 3
load_bow

dev=$(slice data 32768)
# Reads are as fast as they are; each write takes a while.
dmsetup create test-delay --table "0 32768 delay $dev 0 0 $dev 0 2000" || bail "no delay"
dmsetup mknodes
bow_create bow0 /dev/mapper/test-delay || bail "no device"
blkdiscard -qf -o 8M -l 2M /dev/mapper/bow0 || bail "cannot discard"
blkdiscard -qf -o 12M -l 1M /dev/mapper/bow0 || bail "cannot discard"
fields() {
    echo "$(bow_field bow0 state) $(bow_field bow0 free) $(bow_field bow0 ranges)"
}
before="$(fields) $(bow_free bow0)"
same "before" "0 6144 2 3145728" "$before"
bow_set bow0 1 &
setter=$!
other='' looks=0 sysfs=$(bow_sysfs bow0)
while kill -0 "$setter" 2>/dev/null; do
    line=$(dmsetup status bow0 | awk '{ print $4, $6, $12 }')
    bytes=$(cat "$sysfs/free")
    # Of a change while it was looked at nothing is known.
    [ "$(cat "$sysfs/state")" = 0 ] || break
    looks=$((looks + 1))
    [ "$line $bytes" = "$before" ] || other="$other
$line $bytes"
    sleep 0.05
done
wait "$setter" || bail "no checkpoint"
check "the change was looked at: $looks times" test "$looks" -gt 2
same "nothing else was seen" "" "$other"
