#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl checkpoint finds and freezes all that is mounted from a device, or refuses.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs xfs
need_fs btrfs
plan 24
load_bow

begin() { # NAME MIB
    dev=$(slice "$1" $(($2 << 11)))
    bow_create bow0 "$dev" || bail "no device"
}
# clean NAME: the checkpoint was taken, and what a rollback gives back needs no journal replay.
clean() {
    same "$1: state 1" 1 "$(bow_state bow0)"
    umount -A "$mnt" "$work/second" 2>/dev/null
    [ ! -e /dev/mapper/test-top ] || dmsetup remove --retry test-top
    bow_remove bow0
    bowctl restore -q "$dev" >/dev/null
    same "$1: clean at the checkpoint" 0 "$(dumpe2fs -h "$dev" 2>/dev/null | grep -c needs_recovery)"
}
refused() { # NAME REGEX TARGET...
    local name=$1 regex=$2
    shift 2
    fails "$name" "$regex" bowctl checkpoint "$@"
    same "$name: state 0" 0 "$(bow_state "$1")"
}
mkdir -p "$work/second"

begin above 64
mkfs.ext4 -q /dev/mapper/bow0
dmsetup create test-top --table "0 $(sectors_of "$dev") linear /dev/mapper/bow0 0" && dmsetup mknodes
mount /dev/mapper/test-top "$mnt" && echo x >"$mnt/x"
check "above a device on bow: checkpoint" bowctl checkpoint bow0
check "above a device on bow: trimmed" test "$(bow_free bow0)" -gt $((32 << 20))
clean "above a device on bow"

begin apart 64
# Programs of that namespace may be anybody's.
printf '#!/bin/sh\ntouch %s/ran\n' "$work" >"$work/theirs"
chmod +x "$work/theirs"
mkfs.ext4 -q /dev/mapper/bow0
unshare -m --propagation private sh -c \
    "mount /dev/mapper/bow0 $mnt && echo x >$mnt/x && mount --bind $work/theirs $(command -v fstrim) &&
     touch $work/up && exec sleep 1000" &
ns=$!
for _ in {1..100}; do [ ! -e "$work/up" ] || break; sleep 0.2; done
check "in another mount namespace: checkpoint" bowctl checkpoint bow0
check "in another mount namespace: trimmed" test "$(bow_free bow0)" -gt $((32 << 20))
check "in another mount namespace: none of its programs was run" test ! -e "$work/ran"
fails "in another mount namespace: remove says so" "namespace of process" bowctl remove bow0
kill "$ns" && wait "$ns" 2>/dev/null
clean "in another mount namespace"

begin under 64
mkfs.ext4 -q /dev/mapper/bow0
mount /dev/mapper/bow0 "$mnt" && echo x >"$mnt/x" && mount -t tmpfs tmpfs "$mnt"
refused "hidden by another mount" "another mount hides it" bow0
mount /dev/mapper/bow0 "$work/second"
check "hidden in one place of two: checkpoint" bowctl checkpoint bow0
umount "$mnt"
clean "hidden in one place of two"

# File systems over two devices, of which one is on bow.
other=$(slice other $((80 << 11)))
begin part 320
mkfs.btrfs -q -f /dev/mapper/bow0 "$other" && mount /dev/mapper/bow0 "$mnt" || bail "no btrfs"
refused "btrfs on another device as well" "is on slice-other as well" bow0
umount "$mnt"
wipefs -qa "$other" /dev/mapper/bow0
mke2fs -q -F -O journal_dev -b 4096 "$other" && mkfs.ext4 -q -F -b 4096 -J "device=$other" /dev/mapper/bow0 &&
    mount /dev/mapper/bow0 "$mnt" || bail "no ext4"
refused "ext4 with its journal elsewhere" "is on slice-other as well" bow0
umount "$mnt"
wipefs -qa "$other" /dev/mapper/bow0
mkfs.xfs -q -f -l "logdev=$other" /dev/mapper/bow0 &&
    mount -o "logdev=$other" /dev/mapper/bow0 "$mnt" || bail "no XFS"
refused "XFS with its log elsewhere" "is on slice-other as well" bow0
umount "$mnt"
bow_remove bow0
bow_create bow0 "$other" && mount -o logdev=/dev/mapper/bow0 "$dev" "$mnt" || bail "no XFS any more"
refused "the log of an XFS that is elsewhere" "is on slice-part as well" bow0
umount "$mnt"
check "remove" bowctl remove bow0
