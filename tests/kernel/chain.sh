#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# More first writes than one log block has room for: the chain of log blocks rolls back.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 10
load_bow

for block in 512 4096; do
    dev=$(slice "data$block" 65536)
    what="block_size:$block"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 "$dev" "$what" || bail "no device"
    exercise free /dev/mapper/bow0 32768+32768 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    # One sector at a time, so that few writes are neighbours.
    check "$what: scattered first writes" exercise run /dev/mapper/bow0 \
        --range 0+32768 --mix write=1 --max 1 --ops 1500 --depth 16
    # A log block of 512 bytes holds 20 entries at the very most, one of 4096 has 169.
    # Writes that fell onto one block, or were backed up as one run, make it fewer.
    check "$what: the log has several blocks" test "$(bow_field bow0 sequence)" -ge $((block == 512 ? 20 : 2))
    bow_remove bow0 || bail "cannot remove"
    both_readers "$what" "$dev" as_saved
done
