#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The underlying device gets larger logical blocks by a table of its own: nothing is written but what was meant.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 6
load_bow

dev=$(slice data 16384)
big=$(slice big 16384 "$(test_disk 4096)")
dd if=/dev/urandom of="$dev" bs=1M count=8 oflag=direct status=none
dmsetup create test-lower --table "0 16384 linear $dev 0" || bail "no lower device"
dmsetup mknodes
bow_create bow0 /dev/mapper/test-lower block_size:512 || bail "no device"
blkdiscard -qf -o 4M -l 2M /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"
put() { # FIRST-SECTOR SECTORS
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=$(($2 * 512)) seek=$(($1 * 512)) count=1 oflag=direct,seek_bytes \
        conv=notrunc status=none
}
# So far 3 sectors are taken: what comes next is aligned to 4096.
put 800 5 || bail "cannot write"
next=$(bowctl log "$dev" | awk '$2 == "source" { print $5 + $7 / 512; exit }')
same "the next backup is aligned" 0 $((next % 8))

dmsetup suspend --noflush --nolockfs test-lower || bail "cannot suspend"
dd if="$dev" of="$big" bs=1M iflag=direct oflag=direct status=none || bail "cannot copy"
dmsetup load test-lower --table "0 16384 linear $big 0" || bail "no table"
dmsetup resume test-lower
same "the underlying device has blocks of 4096" 4096 "$(blockdev --getss /dev/mapper/test-lower)"
before=$(digest "$big" 1 7)
dd if="$big" of="$work/log" bs=4096 count=1 iflag=direct status=none
fails "a first write, aligned to 4096: its log cannot be written" "Input/output error" put 1600 8
same "which is said" failed "$(bow_field bow0 error)"
drop_caches
same "the sectors after the log are what they were" "$before" "$(digest "$big" 1 7)"
dd if="$big" of="$work/log-after" bs=4096 count=1 iflag=direct status=none
check "and so is the log" cmp "$work/log" "$work/log-after"
