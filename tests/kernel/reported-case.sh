#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The case that was reported against the C prototype, word for word: a 64 MB
# partition with ext4's default 1 KiB blocks is checkpointed, left, refused as
# long as it holds the log, and restored bit for bit.
. "$(dirname "$0")/lib.sh"
plan 13
load_bow

part=$(partition 131072)
mkfs.ext4 -q "$part" || bail "mkfs.ext4"
same "ext4 has 1 KiB blocks by default" 1024 \
    "$(dumpe2fs -h "$part" 2>/dev/null | sed -n 's/^Block size: *//p')"
mount "$part" "$mnt" && cp -r /etc "$mnt/" && umount "$mnt" || bail "cannot fill $part"

# The free blocks are not kept: what must come back is everything else.
used_digest() {
    dumpe2fs "$1" 2>/dev/null | python3 "$here/used_blocks.py" "$1"
}
before=$(used_digest "$part")
[ -n "$before" ] || bail "no digest"

check "create" dmsetup create bowdev --table "0 131072 bow $part"
dmsetup mknodes
check "mount read-only" mount -o ro /dev/mapper/bowdev "$mnt"
out=$(fstrim -v "$mnt" 2>&1)
same "fstrim finds free space" 0 $?
echo "# $out"
check "state 0 has free space" test "$(bow_free bowdev)" -gt $((32 << 20))
check "echo 1 > state" bow_set bowdev 1
same "state is 1" 1 "$(bow_state bowdev)"
check "unmount" umount "$mnt"
check "remove" dmsetup remove --retry bowdev
sync

fails "creating it again is refused and says what to do" "restore.*commit|commit.*restore" \
    dmsetup create bowdev --table "0 131072 bow $part"
check "bowctl restore" bowctl restore "$part"
same "every sector that was not free is as it was" "$before" "$(used_digest "$part")"
check "the file system is clean" fsck.ext4 -fn "$part"
