#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Suspend, resume and reload under load, in state 0 and 1.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 16
load_bow

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 32768+32768 >/dev/null || bail "cannot discard"
line=$(dmsetup table bow0)

# shake: with and without a flush of the file system above, and with a new table.
shake() {
    dmsetup suspend bow0 && dmsetup resume bow0 &&
        dmsetup suspend --noflush --nolockfs bow0 && dmsetup resume bow0 &&
        dmsetup load bow0 --table "$line" && dmsetup resume bow0
}

for state in 0 1; do
    load_begin /dev/mapper/bow0 --seed "$state" --range 0+8000 --range 32000+4000
    rounds=0
    for _ in 1 2 3; do
        shake || break
        rounds=$((rounds + 1))
        sleep 0.2
    done
    same "three rounds in state $state" 3 "$rounds"
    load_ends "the load has seen nothing of it"
    same "the state is still $state" "$state" "$(bow_state bow0)"
    [ "$state" = 1 ] || check "checkpoint" checkpoint bow0
done

# While the device stays suspended.
dmsetup suspend bow0
before=$(events bow0)
fails "while it is suspended the state file refuses" "suspended.*message" bow_set bow0 2
same "and can be read" 1 "$(bow_state bow0)"
check "a message is taken" timeout 60 dmsetup message bow0 0 commit
same "without an event" "$before" "$(events bow0)"
dmsetup resume bow0
same "and it is 2" 2 "$(bow_state bow0)"
check "everything reads as before" exercise verify /dev/mapper/bow0
check "remove" bow_remove bow0
no_log "afterwards" "$dev"
check "the bare device holds what was written" exercise verify "$dev"
