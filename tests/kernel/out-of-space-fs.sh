#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What file systems do when on_full:error leaves no space for backups, and what ends it.
# timeout: 600
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs xfs
need_fs btrfs
need_fs vfat
plan 38
load_bow
dev=$(slice data $((320 << 11)))

# within SECONDS COMMAND...: it ends by then, with status 0; 124 if it goes on, as $going.
within() {
    local seconds=$1
    shift
    "$@" >"$work/within" 2>&1 &
    going=$!
    timeout "$seconds" tail --pid="$going" -s 0.2 -f /dev/null || return 124
    wait "$going"
}
# begin MKFS...: a file system of 200 MiB in 320 MiB, and the device in state 1 with what is free.
begin() {
    local n
    "$@" "$dev" >"$work/mkfs" 2>&1 && mount ${mount_options:+-o "$mount_options"} "$dev" "$mnt" || bail "no file system: $(cat "$work/mkfs")"
    mkdir "$mnt/data" "$mnt/more"
    for n in {1..400}; do : >"$mnt/more/$n"; done
    for n in {1..200}; do head -c 1M /dev/urandom >"$mnt/data/$n" || bail "too small"; done
    umount "$mnt"
    bow_create bow0 "$dev" on_full:error && mount_fs /dev/mapper/bow0 || bail "no device"
    old=$(tree_digest "$mnt")
    fstrim "$mnt" && at_rest && bow_set bow0 1 && in_use bow0 || bail "no checkpoint"
}
# overwrite: the files in place, until that fails.
overwrite() {
    local n
    for n in {1..200}; do
        head -c 1M /dev/urandom | dd of="$mnt/data/$n" bs=1M conv=notrunc,fsync iflag=fullblock status=none || return
    done
}
fills_up() {
    for _ in 1 2 3; do overwrite || return 0; done
    return 1
}
# writes: a new file can be made, and synced.
writes() { : >"$mnt/new-$1" && sync "$mnt/new-$1"; }
# in_the_end: what becomes of it when more is written.
in_the_end() {
    local try
    for try in {1..20}; do
        chmod "60$((try % 2 * 4))" "$mnt"/more/* 2>/dev/null
        writes "$try" 2>/dev/null || { echo "refuses writes"; return; }
        sync -f "$mnt" 2>/dev/null
    done
    echo "goes on"
}
# round FS END MKFS...: 8 results.
round() {
    local what=$1
    begin "${@:3}"
    klog_mark
    echo "bow-test: a file system is made to fail" >/dev/kmsg
    check "$what: a write fails, and does not hang" within 150 fills_up
    sed 's/^/# /' "$work/within"
    same "$what: status says why" full "$(bow_field bow0 error)"
    check "$what: more writes end as well" within 60 in_the_end
    same "$what: in the end it" "$2" "$(cat "$work/within")"
    klog | grep -avE 'Buffer I/O|EXT4-fs warning' | head -n 8 | sed 's/^/# /'
    check "$what: umount" within 60 umount "$mnt"
    echo "bow-test: no file system is made to fail" >/dev/kmsg
    bow_remove bow0
    check "$what: rollback" bowctl restore --quiet "$dev"
    mount_fs "$dev"
    same "$what: the old files are there" "$old" "$(tree_digest "$mnt")"
    umount "$mnt"
    check "$what: it is clean" "${fsck[@]}" "$dev"
}
fsck=(fsck.ext4 -fn)
round ext4 "refuses writes" mkfs.ext4 -q -F
fsck=(xfs_repair -n)
round xfs "refuses writes" mkfs.xfs -q -f
fsck=(btrfs check)
round btrfs "refuses writes" mkfs.btrfs -q -f
fsck=(fsck.vfat -n)
round vfat "goes on" mkfs.vfat -F 32

# A journal that can be written, here since it is elsewhere: XFS tries metadata again for ever.
what="xfs, metadata"
journal=$(slice journal $((64 << 11)))
mount_options=logdev=$journal
begin mkfs.xfs -q -f -l "logdev=$journal"
within 150 fills_up
same "$what: status says why" full "$(bow_field bow0 error)"
chmod 604 "$mnt"/more/*
within 20 fsfreeze -f "$mnt"
same "$what: a freeze waits for ever" 124 $?
check "$what: commit" bowctl commit bow0
check "$what: which ends it" timeout 60 tail --pid="$going" -s 0.2 -f /dev/null
fsfreeze -u "$mnt"
check "$what: umount" within 60 umount "$mnt"
bow_remove bow0
check "$what: it is clean" xfs_repair -n -l "$journal" "$dev"
