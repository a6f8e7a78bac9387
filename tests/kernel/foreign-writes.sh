#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Writes to the underlying device without bow while it holds a checkpoint are noticed by status and restore.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 14
load_bow

# leave NAME [BOW-ARGUMENT]...: an ext4 whose partition holds an open checkpoint, as after a power cut. Sets old.
leave() {
    mkfs.ext4 -q -F -b 4096 "$dev" && bow_create bow0 "$dev" "${@:2}" && mount /dev/mapper/bow0 "$mnt" || bail "no device"
    mkdir "$mnt/etc" && cp -r /etc/. "$mnt/etc" && sync -f "$mnt"
    old=$(tree_digest "$mnt")
    check "$1: checkpoint" bowctl checkpoint bow0
    rm -rf "$mnt"/etc/[a-m]*
    umount "$mnt" && bow_remove bow0 || bail "in use"
}
# noticed NAME REGEX: by status and by restore, which changes nothing. 3 results.
noticed() {
    local before
    before=$(digest "$dev")
    check "$1: status says so" grep -qE "written to without dm-bow: .*$2" <<<"$(bowctl status "$dev")"
    fails "$1: restore says so" "without dm-bow since the checkpoint: .*$2" bowctl restore --quiet "$dev"
    same "$1: nothing was written" "$before" "$(digest "$dev")"
}

# Two block groups, so that there is another superblock.
dev=$(slice data $((160 << 11)))

leave "nobody"
check "nobody: restore" bowctl restore --quiet "$dev"
mount -o ro "$dev" "$mnt" || bail "not restored"
same "nobody: the old files are there" "$old" "$(tree_digest "$mnt")"
umount "$mnt"

# The standard advice for a superblock that cannot be read.
leave "e2fsck"
e2fsck -fy -b 32768 "$dev" >"$work/fsck" 2>&1
noticed "e2fsck" "at byte 1024; there is a superblock of ext2/3/4"
check "e2fsck: restore by force" bowctl restore --quiet --force "$dev"
check "e2fsck: and a check mends it" sh -c "e2fsck -fy $dev; e2fsck -fn $dev"

# In sight with this block size: the next boot mounts it.
mkfs.ext4 -q -F -b 4096 "$dev" && bow_create bow0 "$dev" block_size:512 && mount -o ro /dev/mapper/bow0 "$mnt" &&
    fstrim "$mnt" || bail "no device"
check "mount: checkpoint" bow_set bow0 1
umount "$mnt" && bow_remove bow0 || bail "in use"
sleep 1.1
mount "$dev" "$mnt" && echo x >"$mnt/x" && umount "$mnt" || bail "does not mount"
noticed "mount" "the superblock of ext2/3/4 was written"
check "mount: the new state can be kept" bowctl commit "$dev"
