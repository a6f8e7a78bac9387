#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What stands after the log: an ext4 that a boot loader finds and nobody mounts; also after log writes, a message, a resume.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 36
load_bow

# differs_in DEVICE OFFSET...: in the first block, after the log, these bytes differ from those at the checkpoint.
differs_in() {
    dd if="$1" bs=4096 count=1 iflag=direct status=none >"$work/now"
    same "$what: $2" "$3" "$(cmp -l <(tail -c +513 "$work/old") <(tail -c +513 "$work/now") |
        awk '{ printf "%s%d", (NR > 1 ? " " : ""), $1 + 511 }')"
}
# What the log leaves of the superblock: its checksum, inverted, which are the last four bytes.
covered="2044 2045 2046 2047"

# hidden DEVICE: nobody takes it for a file system. 3 results.
hidden() {
    fails "$what: mount refuses it" "superblock|wrong fs type|checksum|Structure needs cleaning|Bad message" \
        mount -t ext4 -o ro "$1" "$mnt"
    same "$what: blkid finds nothing" "" "$(blkid -p -o value -s TYPE "$1")"
    fails "$what: e2fsck refuses it" "checksum|corrupt|superblock|alternate" e2fsck -n "$1"
}

# open_ext4 NAME DISK MKFS-OPTION...: an ext4 with a checkpoint. Sets dev.
open_ext4() {
    dev=$(slice "$1" 131072 "$2")
    shift 2
    mkfs.ext4 -q -F -b 4096 "$@" "$dev" && bow_create bow0 "$dev" && mount /dev/mapper/bow0 "$mnt" || bail "no device"
    cp -r /etc/. "$mnt" && fstrim "$mnt" && umount "$mnt" || bail "no files"
    dd if=/dev/mapper/bow0 bs=4096 count=1 iflag=direct status=none >"$work/old"
    bow_set bow0 1 || bail "no checkpoint"
    mount /dev/mapper/bow0 "$mnt" || bail "cannot mount"
}

for disk in 512 4096; do
    what="disk of $disk"
    open_ext4 "data$disk" "$(test_disk "$disk")" -O metadata_csum
    differs_in "$dev" "after the checkpoint" "$covered"
    cp -r /usr/share/common-licenses "$mnt/more" 2>/dev/null || cp -r /etc "$mnt/more"
    rm -rf "$mnt"/[a-m]*
    sync -f "$mnt"
    differs_in "$dev" "after log writes" "$covered"
    check "$what: the message" bow_message bow0 "boot try 3"
    differs_in "$dev" "after the message" "$covered"
    umount "$mnt" && bow_remove bow0 || bail "in use"
    hidden "$dev"
    same "$what: no trace of foreign writes" 0 "$(bowctl status "$dev" | grep -c 'without dm-bow')"
    # A power cut in the change of state had left something there.
    dd if="$dev" bs=4096 count=1 iflag=direct status=none >"$work/now"
    cat <(head -c 512 "$work/now") <(tail -c +513 "$work/old") |
        dd of="$dev" bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc status=none
    check "$what: resume" bowctl resume bow0 "$dev"
    dmsetup mknodes
    differs_in "$dev" "after a resume" "$covered"
    check "$what: remove" bow_remove bow0
    check "$what: restore" bowctl restore --quiet "$dev"
    dd if="$dev" bs=4096 count=1 iflag=direct status=none >"$work/now"
    check "$what: the old first block is back" cmp "$work/old" "$work/now"
    check "$what: and the file system is clean" e2fsck -fn "$dev"
done

what="no checksums"
open_ext4 plain "$(test_disk 512)" -O ^metadata_csum
dd if="$dev" bs=4096 count=1 iflag=direct status=none >"$work/now"
same "$what: zeroes" 0 "$(tail -c +513 "$work/now" | tr -d '\0' | wc -c)"
umount "$mnt" && bow_remove bow0 || bail "in use"
hidden "$dev"
check "$what: the new state is kept" bowctl commit "$dev"

what="XFS"
dev=$(slice xfs 614400)
mkfs.xfs -q -f "$dev" && bow_create bow0 "$dev" && mount /dev/mapper/bow0 "$mnt" && fstrim "$mnt" || bail "no XFS"
check "$what: checkpoint" bow_set bow0 1
dd if="$dev" bs=4096 count=1 iflag=direct status=none >"$work/now"
same "$what: zeroes" 0 "$(tail -c +513 "$work/now" | tr -d '\0' | wc -c)"
umount "$mnt" && bow_remove bow0 || bail "in use"
check "$what: restore" bowctl restore --quiet "$dev"
