#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The file system writes where backups and the relocated first block lie: they move, and rollback holds.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 16
load_bow

for block in 512 4096; do
    dev=$(slice "data$block" 32768)
    what="block_size:$block"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 "$dev" "$what" || bail "no device"
    exercise free /dev/mapper/bow0 16384+16384 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    home=$(sector0 "$dev")
    [ -n "$home" ] || bail "no log"
    check "$what: backups are made" exercise run /dev/mapper/bow0 \
        --range 0+2048 --mix write=1 --max 8 --ops 300
    # Wherever they were put: of the free half, first one part is written and
    # then the other, until there is no room. What lies there must have moved.
    for part in 16384+10000 22768+10000 16384+16384; do
        exercise run /dev/mapper/bow0 --range "$part" --mix write=3,read=1 --max 64 --ops 600 \
            --seed 7 >"$work/run.out" 2>&1
        case $? in
        0 | 4) ;;
        *) not_ok "$what: writes to free space" "$(cat "$work/run.out")" ;;
        esac
    done
    check "$what: backups moved" test "$(bow_field bow0 moved)" -gt 0
    check "$what: the relocated first block moved" test "$(sector0 "$dev")" != "$home"
    check "$what: all reads are right" exercise verify /dev/mapper/bow0
    check "$what: remove" bow_remove bow0
    both_readers "$what" "$dev" as_saved
done
