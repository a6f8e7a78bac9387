#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl resume: an update goes on after the device was removed, is looked at, and rolls back; free space is empty then.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 19
load_bow

dev=$(slice data 131072)
mkfs=(mkfs.ext4 -q)
fsck=(fsck.ext4 -fn)
make_fs
what=resume
bowctl create bow0 "$dev" >/dev/null || bail "no device"
dmsetup mknodes
mount_fs /dev/mapper/bow0 || bail "cannot mount"
old=$(tree_digest "$mnt")
fstrim "$mnt"
bowctl checkpoint bow0 >/dev/null 2>&1 || bail "no checkpoint"
update 5
# What is undone must not be found in free space afterwards.
for file in {1..40}; do printf 'undone-%s-%08000d' "$file" "$file" >"$mnt/undone-$file"; done
umount "$mnt"
bow_remove bow0 || bail "cannot remove"

fails "create names the ways on" "resume.*restore|restore.*commit" bowctl create bow0 "$dev"
check "status of the plain device" bowctl status "$dev"
check "resume" bowctl resume bow0 "$dev"
dmsetup mknodes
same "state 1" 1 "$(bow_state bow0)"
check "mount" mount_fs /dev/mapper/bow0
same "the new files are there" 40 "$(find "$mnt" -name 'undone-*' | wc -l)"
update 6
check "status" bowctl status bow0
check "map, in the terminal" bowctl map bow0
check "map, as SVG" bowctl map --svg "$work/map.svg" bow0
check "which is XML" python3 -c "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])" "$work/map.svg"
check "diff" bowctl diff bow0
umount "$mnt"
check "remove" bow_remove bow0
check "restore" bowctl restore "$dev"
mount_fs "$dev" || bail "cannot mount"
same "the old file system is as it was" "$old" "$(tree_digest "$mnt")"
umount "$mnt"
check "and clean" "${fsck[@]}" "$dev"
same "nothing that was undone is left on the device" 0 "$(grep -ac 'undone-[0-9]' "$dev")"
fails "there is nothing to resume any more" "no log|no checkpoint|nothing" bowctl resume bow0 "$dev"
