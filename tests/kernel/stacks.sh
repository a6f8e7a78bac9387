#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Layers below and above bow: encryption and RAID below it, encryption above it.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
. "$here/common/layers.sh"
need_module dm-crypt dm-raid raid1
plan $((2 * results_roll_back + 4))
load_bow
mkfs=(mkfs.ext4 -q -F)
fsck=(fsck.ext4 -fn)

below=$(slice data $((64 << 11)))
crypt test-crypt "$below" || bail "no encryption"
dev=/dev/mapper/test-crypt
make_fs
roll_back
dmsetup remove --retry test-crypt

one=$(slice one $((64 << 11))) two=$(slice two $((64 << 11)))
dmsetup create test-raid --table "0 $((64 << 11)) raid raid1 2 0 nosync 2 - $one - $two" && dmsetup mknodes test-raid ||
    bail "no RAID"
dev=/dev/mapper/test-raid
make_fs
roll_back block_size:512
dmsetup remove --retry test-raid

# The other way round: frozen and trimmed by hand.
dev=$below
bow_create bow0 "$dev" && crypt test-crypt /dev/mapper/bow0 || bail "no devices"
mkfs.ext4 -q -F /dev/mapper/test-crypt && mount /dev/mapper/test-crypt "$mnt" || bail "no file system"
tree fill "$mnt" --files 60
old=$(tree_digest "$mnt")
fstrim "$mnt" && fsfreeze -f "$mnt"
check "above: checkpoint" bow_set bow0 1
fsfreeze -u "$mnt"
tree update "$mnt" --seed 3
umount "$mnt"
dmsetup remove --retry test-crypt
bow_remove bow0
check "above: bowctl rolls back" bowctl restore "$dev"
crypt test-crypt "$dev" && mount -o ro /dev/mapper/test-crypt "$mnt" || bail "not restored"
same "above: the content is old" "$old" "$(tree_digest "$mnt")"
umount "$mnt"
check "above: old file system is clean" fsck.ext4 -fn /dev/mapper/test-crypt
