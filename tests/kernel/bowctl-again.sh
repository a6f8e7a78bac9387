#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl and what file systems remember of trims: all free space, any number of times in one mount.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 13
load_bow

dev=$(slice data $((200 << 11)))
size=$(sectors_of "$dev")
told() {
    awk '{ print int($14 / 2048) }' "/sys/dev/block/$(lsblk -dno MAJ:MIN "$dev" | tr -d ' ')/stat"
}
# trims_all WHAT: plain fstrim tells the underlying device of most of the file system.
trims_all() {
    local before
    before=$(told)
    fstrim "$mnt"
    check "$1: $(($(told) - before)) MiB" test $(($(told) - before)) -gt 120
}
reload() {
    dmsetup load bow0 --table "0 $size $1" && dmsetup resume bow0
}

mkfs.ext4 -q -E lazy_itable_init=0 "$dev"
check "create" bowctl create bow0 "$dev" || bail "no device"
mount /dev/mapper/bow0 "$mnt" || bail "no file system"
fstrim "$mnt"
bowctl checkpoint bow0 >"$work/out" 2>&1
same "checkpoint, after a trim" 1 "$(bow_state bow0)"
same "nothing to warn of" "" "$(grep -vE '^trimmed|checkpoint taken' "$work/out")"
first=$(bow_free bow0)
check "commit" bowctl commit bow0
trims_all "fstrim after the commit"
for round in 2 3; do
    check "round $round: linear and bow again" \
        sh -c "$(declare -f reload); size=$size; reload 'linear $dev 0' && reload 'bow $dev'"
    check "round $round: checkpoint in the same mount" bowctl checkpoint bow0
    check "round $round: as much is free: $(bow_free bow0) of $first" \
        test "$(bow_free bow0)" -gt $((first * 9 / 10))
    # A trim in state 1 is not remembered either.
    fstrim "$mnt"
    bowctl commit bow0 >/dev/null
done
trims_all "fstrim after a trim in state 1 and a commit"
umount "$mnt"
check "remove" bowctl remove bow0
