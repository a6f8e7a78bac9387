#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl waits for locks and openers that are there for a moment, and names those that stay.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 10
load_bow

dev=$(partition $((64 << 11)))
disk=/dev/$(lsblk -dno PKNAME "$dev")
# held SECONDS: a lock on the whole disk, which is there when this returns.
held() {
    rm -f "$work/locked"
    flock -s "$disk" sh -c ': >"$1"; exec sleep "$2"' sh "$work/locked" "$1" &
    holder=$!
    until [ -e "$work/locked" ]; do sleep 0.05; done
}

held 2
check "create waits for a lock on the whole disk" bowctl create bow0 "$dev" || bail "no device"
wait
blkdiscard -f -o 8M -l 8M /dev/mapper/bow0
check "checkpoint" bowctl checkpoint bow0
# Opened here, and inherited.
exec 3</dev/mapper/bow0
tail -f /dev/null &
opener=$!
exec 3<&-
timeout 20 bash -c 'until grep -qx tail "/proc/$1/comm"; do sleep 0.05; done' sh "$opener" || bail "no tail"
fails "remove names who has the device open" "tail \(process $opener\)" bowctl remove bow0
kill "$opener" && wait "$opener" 2>/dev/null
exec 3</dev/mapper/bow0
sleep 2 &
exec 3<&-
check "remove waits for who has it open for a moment" bowctl remove bow0
wait
same "the node is gone" gone "$([ -e /dev/mapper/bow0 ] || echo gone)"
held 2
check "check waits" bowctl check "$dev"
wait
held 1000
fails "a lock that stays" "locked by .*process" bowctl restore "$dev"
same "its exit code" 5 "$(bowctl restore "$dev" >/dev/null 2>&1; echo $?)"
pkill -P "$holder"; kill "$holder" 2>/dev/null; wait "$holder" 2>/dev/null
check "restore, after it" bowctl restore "$dev"
no_log "restored" "$dev"
