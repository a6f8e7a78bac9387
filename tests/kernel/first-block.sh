#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Block 0 in state 1: every read sees the newest write, and commit puts the newest back.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 26
load_bow

# around_zero SEED [OPTION]...: bios in and across block 0, each read back.
around_zero() {
    local seed=$1
    shift
    exercise run /dev/mapper/bow0 --range 0+24 --max 24 --ops 150 --read-back --seed "$seed" "$@"
}

for block in 512 4096; do
    dev=$(slice "data$block" 8192)
    what="block_size:$block"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 "$dev" "$what" || bail "no device"
    exercise free /dev/mapper/bow0 4096+4096 >/dev/null || bail "cannot discard"
    check "$what: checkpoint" checkpoint bow0
    check "$what: the magic of the log is on the device" grep -qa '^BOW' \
        <(dd if="$dev" bs=4 count=1 iflag=fullblock status=none)
    check "$what: nothing has changed for a reader" exercise verify /dev/mapper/bow0
    check "$what: direct" around_zero 1
    # What went past the page cache must be seen through it, and the reverse.
    check "$what: through the page cache" around_zero 2 --buffered --depth 1 --mix read=1,write=1
    check "$what: direct again" around_zero 3
    check "$what: checkpoint is kept" bow_set bow0 2
    check "$what: remove" bow_remove bow0
    check "$what: commit put the newest back" exercise verify "$dev"

    bow_create bow0 "$dev" "$what" || bail "no device"
    exercise free /dev/mapper/bow0 4096+4096 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    around_zero 4 >/dev/null || bail "bios after the checkpoint"
    check "$what: remove in state 1" bow_remove bow0
    both_readers "$what" "$dev" as_saved
done
