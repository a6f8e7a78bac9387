#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Checkpoint after checkpoint on one device, without a trim between them: each rolls back or is kept as the first.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 23
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 16384+16384 >/dev/null || bail "cannot discard"
for round in 1 2 3; do
    free=$(bow_free bow0)
    check "checkpoint $round" checkpoint bow0
    check "checkpoint $round: writes to what is in use" exercise run /dev/mapper/bow0 \
        --range 0+8192 --mix write=2,read=1 --max 64 --ops 100 --seed "$round"
    check "checkpoint $round: writes to free space" exercise run /dev/mapper/bow0 \
        --range $((16384 + round * 1024))+512 --mix write=1 --max 64 --ops 20 --seed "$round"
    check "checkpoint $round: commit" bow_set bow0 2
    check "checkpoint $round: all reads are right" exercise verify /dev/mapper/bow0
    check "checkpoint $round: state 0" bow_set bow0 0
    # What was granted is not free, but all else is, places of backups too.
    left=$(bow_free bow0)
    check "checkpoint $round: $left bytes of $free are free again" \
        test "$left" -gt $((free - 3 * 1024 * 1024)) -a "$left" -lt "$free"
done
free_then=$(bow_free bow0)
exercise free /dev/mapper/bow0 16384+16384 >/dev/null || bail "cannot discard"
check "a discard gives the rest back" test "$(bow_free bow0)" -gt "$free_then"
checkpoint bow0 || bail "no checkpoint"
exercise run /dev/mapper/bow0 --mix write=4,discard=1 --max 64 --ops 200 >/dev/null
bow_remove bow0 || bail "cannot remove"
bowctl restore "$dev" >/dev/null || bail "cannot restore"
check "the last one rolls back" as_saved "$dev"
