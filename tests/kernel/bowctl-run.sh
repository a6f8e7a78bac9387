#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl run and rollback on a mounted device, and what bowctl boot decides about a device: tries, restores, no log, damage.
# timeout: 400
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 42
load_bow

dev=$(slice data 131072)
mkfs.ext4 -q -F -b 4096 "$dev" && bowctl create bow0 "$dev" >/dev/null && dmsetup mknodes &&
    mount -o noatime /dev/mapper/bow0 "$mnt" || bail "no device"
echo old >"$mnt/file"

# ends CODE NAME COMMAND...: the command ends with this exit code. What it says is in $work/said.
ends() {
    local code=$1 name=$2 status=0
    shift 2
    "$@" >"$work/said" 2>&1 || status=$?
    same "$name" "$code" "$status"
    [ "$status" = "$code" ] || sed 's/^/# /' "$work/said"
}
# is TEXT STATE NAME: what the file has, and the state of the device. 2 results.
is() {
    same "$3: the file" "$1" "$(cat "$mnt/file")"
    same "$3: the state" "$2" "$(bow_state bow0)"
}

ends 0 "a command that succeeds" bowctl run --on bow0 -- sh -c "echo new >$mnt/file"
is new 0 "it is kept"
ends 9 "a command that fails" bowctl run --on "$mnt" -- sh -c "echo bad >$mnt/file; exit 3"
is new 0 "it is rolled back"
same "mounted as before" noatime "$(findmnt -no OPTIONS "$mnt" | tr , '\n' | grep noatime)"
ends 9 "a check that fails" bowctl run --on bow0 --check "grep good $mnt/file" -- sh -c "echo bad >$mnt/file"
is new 0 "it is rolled back too"
ends 0 "a check that passes" bowctl run --on bow0 --check "grep good $mnt/file" -- sh -c "echo good >$mnt/file"
is good 0 "it is kept too"

tail -f "$mnt/file" >/dev/null &
user=$!
ends 9 "a device in use" bowctl run --on bow0 -- sh -c "echo bad >$mnt/file; exit 3"
check "which is said" grep -q "in use" "$work/said"
is bad 1 "nothing is undone yet"
same "but the log says that it is to be" restore "$(log_header bow0 boot_action)"
kill "$user"
wait "$user" 2>/dev/null
ends 0 "rolled back when it is not in use any more" bowctl rollback bow0
is good 0 "it is as it was"
fails "there is nothing to roll back any more" "no checkpoint" bowctl rollback bow0
umount "$mnt" && bow_remove bow0 || bail "in use"

#### What an initramfs calls, with a device that is not the root

# start: boots once more. Sets status.
start() {
    ends "$1" "$2" bowctl boot --name bow0 --fs-type ext4 "$dev"
    dmsetup mknodes
}

start 0 "boot without a log"
same "state 0" 0 "$(bow_state bow0)"
mount /dev/mapper/bow0 "$mnt" || bail "cannot mount"
bowctl checkpoint bow0 >/dev/null 2>&1 && bow_message bow0 "boot try 2" || bail "no checkpoint"
echo tried >"$mnt/file"
umount "$mnt" && bow_remove bow0 || bail "in use"
check "a dry run names the decision" sh -c "bowctl boot --dry-run --name bow0 $dev | grep 'Try { left: 1 }'"
start 0 "the first try"
same "one is left" 1 "$(log_header "$dev" boot_tries_left)"
bow_remove bow0 || bail "in use"
start 0 "the second try"
same "none is left" 0 "$(log_header "$dev" boot_tries_left)"
mount -o ro /dev/mapper/bow0 "$mnt" && is tried 1 "the new state is there"
umount "$mnt" && bow_remove bow0 || bail "in use"
start 0 "there is no third try"
mount -o ro /dev/mapper/bow0 "$mnt" && is good 0 "the old state is back"
umount "$mnt" && bow_remove bow0 || bail "in use"

# Said in state 0, so that no power cut comes in between.
bowctl create bow0 "$dev" >/dev/null && dmsetup mknodes && mount /dev/mapper/bow0 "$mnt" && fstrim "$mnt" &&
    umount "$mnt" || bail "no device"
check "before a checkpoint is taken" bow_message bow0 "boot restore"
bow_set bow0 1 || bail "no checkpoint"
same "its log begins with it" restore "$(log_header bow0 boot_action)"
bow_set bow0 2
fails "not when it was committed" "Invalid argument" bow_message bow0 "boot restore"
bow_set bow0 0 && bow_set bow0 1 || bail "no other checkpoint"
same "it was for one checkpoint" none "$(log_header bow0 boot_action)"
bow_set bow0 2 && bow_remove bow0 || bail "in use"

bowctl create bow0 "$dev" >/dev/null && dmsetup mknodes && mount /dev/mapper/bow0 "$mnt" &&
    bowctl checkpoint bow0 >/dev/null 2>&1 || bail "no checkpoint"
umount "$mnt" && bow_remove bow0 || bail "in use"
start 0 "a checkpoint of which nothing is said"
same "it goes on" 1 "$(bow_state bow0)"
bow_remove bow0 || bail "in use"

# A damaged log.
dd if="$dev" of="$work/first" bs=4096 count=1 iflag=direct status=none
{ head -c 40 "$work/first"; printf '\377\377\377\377'; tail -c +45 "$work/first"; } |
    dd of="$dev" bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc status=none
before=$(digest "$dev")
start 8 "a damaged log"
same "nothing was written" "$before" "$(digest "$dev")"
