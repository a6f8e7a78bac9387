#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# XFS is used after a rollback and the power fails: it mounts again, without a free map with what bowctl restore advises.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs xfs
plan 21
load_bow
# The push of metadata every 30 s would write some of it, and hide a part.
echo 720000 >/proc/sys/fs/xfs/xfssyncd_centisecs

# power_cut DIR: the journal is written, what it is about is not.
power_cut() {
    python3 -I -S -c 'import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack("I", 1))' "$1"
}
# directories WHO: 30 of one block each, in space that is free.
directories() {
    local dir file
    for dir in {1..30}; do
        mkdir "$mnt/d$dir" || return
        for file in {1..40}; do : >"$mnt/d$dir/$1-a-name-that-is-long-enough-$file" || return; done
    done
}
# round NAME DAMAGE DANGERS CURE...: DAMAGE comes after the checkpoint; restore names so many DANGERS, and the cure
# gets what it said in $work/said. 7 results.
round() {
    local what=$1 n
    mkfs.xfs -q -f "$dev" && mount "$dev" "$mnt" || bail "no file system"
    mkdir "$mnt/busy"
    for n in {1..400}; do : >"$mnt/busy/$n"; done
    umount "$mnt"
    bow_create bow0 "$dev" && mount /dev/mapper/bow0 "$mnt" || bail "no device"
    check "$what: checkpoint" bowctl checkpoint bow0
    "$2" || bail "$2"
    # The update that is undone: the head of the journal goes far, then the directories.
    for n in {1..30}; do chmod "60$((n % 2 * 4))" "$mnt"/busy/* && sync -f "$mnt"; done
    directories old
    umount "$mnt"
    bow_remove bow0
    bowctl restore --quiet "$dev" 2>"$work/said"
    same "$what: what restore says of dangers" "$3" "$(grep -c 'This is XFS.*logformat' "$work/said")"
    sed 's/^/# /' "$work/said"
    check "$what: what is to be done can be done" "${@:4}"
    check "$what: the old file system is clean" xfs_repair -n "$dev"
    # The second try, without bow even.
    mount "$dev" "$mnt" || bail "does not mount"
    directories new
    power_cut "$mnt"
    umount "$mnt"
    check "$what: mounts after the power cut" mount "$dev" "$mnt"
    same "$what: all files are there" 1200 "$(find "$mnt" -name "new-*" 2>/dev/null | wc -l)"
    umount "$mnt" 2>/dev/null
    check "$what: and it is clean" xfs_repair -n "$dev"
}
# replayed: the journal of the old file system is carried out, which a checkpoint leaves in it.
replayed() {
    mount "$dev" "$mnt" && umount "$mnt"
}
# advised: the journal is emptied, then the command that restore has printed.
advised() {
    mount "$dev" "$mnt" && umount "$mnt" || return
    sh -c "$(sed -n 's/.*`\(xfs_db .*\)`\..*/\1/p' "$work/said")"
}
# zeroed: all that is free, before anything is written there.
zeroed() {
    mount "$dev" "$mnt" && fstrim "$mnt" && umount "$mnt"
}
# map_lost: the first block of the free map, which is still where it was written.
map_lost() {
    local sector
    sector=$(bowctl log --json "$dev" | sed -n 's/.*"free_map_sector": *\([0-9]\+\).*/\1/p' | head -n 1)
    [ -n "$sector" ] && dd if=/dev/zero of="$dev" seek="$sector" count=1 oflag=direct conv=notrunc status=none
}
dev=$(slice data $((320 << 11)))
round "free space zeroed by the restore" true 0 replayed
round "no free map, journal moved" map_lost 1 advised
blkdiscard -qfz "$dev"
round "no free map, trimmed, discards read as zeroes" map_lost 1 zeroed
