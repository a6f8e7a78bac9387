#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl checkpoint warns of little free space and of ext4's background zeroing of inode tables.
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs btrfs
plan 10
load_bow

dev=$(slice data $((200 << 11)))
says() { # NAME REGEX OPTION...
    local name=$1 regex=$2
    shift 2
    bowctl checkpoint bow0 "$@" >"$work/out" 2>&1
    check "$name" grep -qE "$regex" "$work/out"
    umount "$mnt"
    bow_remove bow0
    bowctl restore -q "$dev" >/dev/null
}
begin() { # MOUNT-OPTION...
    bow_create bow0 "$dev" && mount "$@" /dev/mapper/bow0 "$mnt" || bail "no device"
}

mkfs.ext4 -q -E lazy_itable_init=1 "$dev"
begin -o init_itable=1000
says "ext4 that zeroes its inode tables" "zeroed all its inode tables.*noinit_itable"
begin -o noinit_itable
bowctl checkpoint bow0 >"$work/out" 2>&1
same "where it is told not to, a checkpoint" 1 "$(bow_state bow0)"
same "is not warned of" 0 "$(grep -c "inode tables" "$work/out")"
umount "$mnt"
bow_remove bow0
bowctl restore -q "$dev" >/dev/null

mkfs.ext4 -qF -E lazy_itable_init=0 "$dev"
begin
says "without a trim" "only .* are known to be free.*--no-trim" --no-trim
# A layer that takes no discards.
bow_create bow0 "$dev" || bail "no device"
dmsetup create test-top --table "0 $(sectors_of "$dev") crypt cipher_null-ecb - 0 /dev/mapper/bow0 0" 2>"$work/crypt" ||
    { skip "a layer that passes no discards on" "no dm-crypt"; skip "its checkpoint" "no dm-crypt"; crypt=no; }
if [ -z "${crypt:-}" ]; then
    dmsetup mknodes
    mount /dev/mapper/test-top "$mnt" || bail "no file system"
    fails "a layer that passes no discards on" "not supported" bowctl checkpoint bow0
    same "its checkpoint is not taken" 0 "$(bow_state bow0)"
    umount "$mnt"
    dmsetup remove --retry test-top
fi
check "remove" bowctl remove bow0

# btrfs trims unallocated space once in a mount.
dev=$(slice btrfs $((500 << 11)))
size=$(sectors_of "$dev")
mkfs.btrfs -q -f "$dev"
begin
bowctl checkpoint bow0 >/dev/null && bowctl commit bow0 >/dev/null
dmsetup load bow0 --table "0 $size linear $dev 0" && dmsetup resume bow0
dmsetup load bow0 --table "0 $size bow $dev" && dmsetup resume bow0
says "btrfs that has trimmed in this mount" "only .* are known to be free.*unmount it, mount it again"
begin
bowctl checkpoint bow0 >"$work/out" 2>&1
same "after a new mount, a checkpoint" 1 "$(bow_state bow0)"
same "is not warned of either" 0 "$(grep -c "known to be free" "$work/out")"
umount "$mnt"
bow_remove bow0
