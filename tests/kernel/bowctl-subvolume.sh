#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl rollback of a subvolume of btrfs whose name has characters that are escaped in the list of mounts.
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs btrfs
plan 4
load_bow

dev=$(slice data 131072)
name='a b,c'
mkfs.btrfs -q -f --mixed "$dev" && bowctl create bow0 "$dev" >/dev/null && dmsetup mknodes &&
    mount /dev/mapper/bow0 "$mnt" && btrfs subvolume create "$mnt/$name" >/dev/null && echo old >"$mnt/$name/file" &&
    umount "$mnt" && mount -o subvolid=256 /dev/mapper/bow0 "$mnt" || bail "no subvolume"
check "checkpoint" bowctl checkpoint bow0
echo new >"$mnt/file"
check "rollback" bowctl rollback bow0
same "the file is as before" old "$(cat "$mnt/file")"
same "that subvolume is mounted again" "/$name" "$(findmnt -no FSROOT "$mnt")"
