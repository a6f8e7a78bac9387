#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl checkpoint and commit of two devices together, and a power cut between them.
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs btrfs
plan 19
load_bow

one=$(slice one $((128 << 11)))
two=$(slice two $((128 << 11)))
begin() {
    bow_create bow0 "$one" && bow_create bow1 "$two" || bail "no devices"
}
states() {
    echo "$(bow_state bow0) $(bow_state bow1)"
}

mkfs.btrfs -q -f "$one" "$two"
begin
mount -o device=/dev/mapper/bow1 /dev/mapper/bow0 "$mnt" || bail "no btrfs"
echo old >"$mnt/x"
fails "btrfs on both, one named" "as well" bowctl checkpoint bow0
same "both in state 0" "0 0" "$(states)"
check "both named" bowctl checkpoint bow0 bow1
same "both in state 1" "1 1" "$(states)"
echo new >"$mnt/x"
umount "$mnt"
check "remove both" bowctl remove bow0 bow1
check "restore one" bowctl restore "$one"
check "restore the other" bowctl restore "$two"
begin
mount -o device=/dev/mapper/bow1 /dev/mapper/bow0 "$mnt" || bail "no btrfs any more"
same "all is old" old "$(cat "$mnt/x")"

# A cut between two commits.
bowctl checkpoint bow0 bow1 >/dev/null
echo new >"$mnt/x"
umount "$mnt"
bow_set bow0 2
bowctl remove bow0 bow1 >/dev/null
bowctl status "$one" "$two" >"$work/out"
check "status says what is left to do" grep -qF "bowctl commit $two\`" "$work/out"
check "commit of both completes it" bowctl commit "$one" "$two"
fails "then there is none" "no log|no checkpoint" bowctl commit "$one" "$two"
begin
mount -o device=/dev/mapper/bow1 /dev/mapper/bow0 "$mnt" || bail "no btrfs any more"
same "all is new" new "$(cat "$mnt/x")"

# The same command again, when the first has gone on to state 0.
bowctl checkpoint bow0 bow1 >/dev/null && bow_set bow0 2 && bow_set bow0 0 || bail "not in between"
check "commit of both live devices completes it" bowctl commit bow0 bow1
same "both are committed" "0 2" "$(states)"
bow_set bow1 0 || bail "bow1 is not in state 0"

# The second one refuses: it has no free space. The first has no checkpoint either then.
umount "$mnt"
fails "a live device that is in state 0" "no checkpoint to commit" bowctl commit bow0 bow1
dd if=/dev/zero of=/dev/mapper/bow1 bs=1M count=128 oflag=direct status=none
blkdiscard -f -o 64M -l 8M /dev/mapper/bow0
fails "a checkpoint that the second device refuses" "committed again" bowctl checkpoint bow0 bow1
same "no checkpoint is open" "0 0" "$(states)"
check "remove both again" bowctl remove bow0 bow1
no_log "the first" "$one"
