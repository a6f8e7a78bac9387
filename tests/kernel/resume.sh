#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A checkpoint goes on after the device was removed, any number of times, and rolls back to its first state.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 47
load_bow

# Writes and discards everywhere, so that backups, log blocks and the map move.
stir() {
    local what=$1 seed=$2
    exercise run /dev/mapper/bow0 --mix write=6,read=2,discard=1 --max 64 --ops 300 --seed "$seed" \
        >"$work/run.out" 2>&1
    case $? in
    # 4: no space is left.
    0 | 4) ok "$what: writes, reads and discards" ;;
    *) not_ok "$what: writes, reads and discards" "$(cat "$work/run.out")" ;;
    esac
}

for block in 512 4096; do
    dev=$(slice "data$block" 32768)
    what="block_size:$block"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 "$dev" "$what" || bail "no device"
    exercise free /dev/mapper/bow0 12288+20480 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    stir "$what" 1
    for round in 1 2 3; do
        sequence=$(bow_field bow0 sequence)
        entries=$(bow_field bow0 entries)
        backup=$(bow_field bow0 backup)
        check "$what, resume $round: remove" bow_remove bow0
        check "$what, resume $round: create" bow_create bow0 "$dev" resume
        same "$what, resume $round: state and log" "1 $block $sequence $entries" \
            "$(bow_field bow0 state) $(bow_field bow0 block_size) $(bow_field bow0 sequence) $(bow_field bow0 entries)"
        same "$what, resume $round: backups" "$backup" "$(bow_field bow0 backup)"
        check "$what, resume $round: the new data is read" exercise verify /dev/mapper/bow0
        stir "$what, resume $round" "$((round + 1))"
    done
    check "$what: remove" bow_remove bow0
    if [ "$block" = 512 ]; then
        both_readers "$what" "$dev" as_saved
    else
        # Committed, nothing is left to be resumed.
        check "$what: create once more" bow_create bow0 "$dev" resume
        check "$what: commit" bow_set bow0 2
        check "$what: all reads are right" exercise verify /dev/mapper/bow0
        bow_remove bow0 || bail "cannot remove"
        fails "$what: a committed checkpoint is not resumed" "Invalid argument" bow_create bow0 "$dev" resume
    fi
done
