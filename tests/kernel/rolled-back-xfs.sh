#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# XFS is used again after a rollback and the power fails, three times; without a free map too, with what bowctl restore advises.
# timeout: 900
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
need_fs xfs
plan $((results_rounds_again + 2 * results_round))
load_bow
# The push of metadata every 30 s would write some of it, and hide a part.
echo 720000 >/proc/sys/fs/xfs/xfssyncd_centisecs

mkfs=(mkfs.xfs -q -f)
fsck=(xfs_repair -n)
# The head of the journal is to go far.
rewrites=100
size=320
begin
rounds_again

after_checkpoint() { lose_map; }
# The journal is emptied, then the command that restore has printed moves it.
before_use() {
    mount "$dev" "$mnt" && umount "$mnt" || return
    sh -c "$(sed -n 's/.*`\(xfs_db .*\)`\..*/\1/p' "$work/said")"
}
round "no free map, journal moved" 5 1
# All that is free reads as zeroes before anything is written there.
before_use() {
    mount "$dev" "$mnt" && fstrim "$mnt" && umount "$mnt"
}
blkdiscard -qfz "$dev"
make_fs
round "no free map, trimmed, discards read as zeroes" 7 1
