#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Below the low-water mark there is an event and a uevent with figures, once, before space runs out.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 22
load_bow

dev=$(slice data 16384)
# Uevents come by netlink, which a kernel without networks has not.
if [ -e /proc/net/netlink ]; then
    python3 -I -S "$common/uevents.py" >"$work/uevents" &
    listener=$!
    trap 'kill "$listener"; finish' EXIT
    timeout 60 bash -c 'until grep -q listening "$1"; do sleep 0.1; done' sh "$work/uevents" || bail "nobody listens"
fi

put() { # BLOCK COUNT: first writes
    dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek="$1" count="$2" oflag=direct conv=notrunc status=none
}
uevents() { # STATUS: how many there were; a moment later, since nobody waits for a uevent
    sleep 1
    grep -c "DM_BOW_STATUS=$1" "$work/uevents"
}
of_uevents() { # NAME COMMAND...: check of something that needs them
    if [ -n "${listener:-}" ]; then
        check "$@"
    else
        skip "$1" "the kernel has no netlink"
    fi
}
# has_free: the last uevent has the bytes that are free, less than half.
has_free() {
    local free
    free=$(sed -n 's/.*DM_BOW_STATUS=low.* DM_BOW_FREE=\([0-9]*\).*/\1/p' "$work/uevents")
    test "${free:-0}" -gt 0 -a "${free:-0}" -lt $((2048 * 512))
}
count_is() { # WANTED STATUS
    test "$(uevents "$2")" = "$1"
}

fails "no mark: a share of more than 100 %" "low_water" bow_create bow0 "$dev" low_water:101%
fails "no mark: a word" "low_water" bow_create bow0 "$dev" low_water:much
bow_create bow0 "$dev" low_water:50% || bail "no device"
same "the table has the mark" low_water:50% "$(dmsetup table bow0 | grep -o 'low_water:[^ ]*')"
same "and the number of arguments" 3 "$(dmsetup table bow0 | awk '{ print $5 }')"
blkdiscard -qf -o $((8192 * 512)) -l $((4096 * 512)) /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"
# says STATE STATUS: there was a uevent that does.
says() {
    sleep 1
    grep -q "DM_BOW_STATE=$1 DM_BOW_STATUS=$2" "$work/uevents"
}
of_uevents "a uevent says that the checkpoint was taken" says 1 ok
before=$(events bow0)

put 10 100
same "above the mark: status" ok "$(bow_field bow0 error)"
same "above the mark: no event" "$before" "$(events bow0)"
put 200 200
same "below the mark: status" low "$(bow_field bow0 error)"
same "below the mark: an event" $((before + 1)) "$(events bow0)"
of_uevents "below the mark: a uevent" count_is 1 low
of_uevents "which has the bytes that are free, less than half" has_free
check "bowctl status says so" grep -q "^  LOW: " <(bowctl status bow0)
put 420 30
same "further below: no other event" $((before + 1)) "$(events bow0)"

check "another mark, which is not reached: message" bow_message bow0 "low_water 4096"
put 450 1
same "another mark, which is not reached: status" ok "$(bow_field bow0 error)"
same "another mark, which is not reached: the table" low_water:4096 "$(dmsetup table bow0 | grep -o 'low_water:[^ ]*')"
check "one that is: message" bow_message bow0 "low_water 100%"
put 451 1
same "one that is: an event again" $((before + 2)) "$(events bow0)"
of_uevents "one that is: a uevent again" count_is 2 low
bow_set bow0 2 || bail "no commit"
of_uevents "a uevent says that it was committed" says 2 ok
same "after the commit: status" ok "$(bow_field bow0 error)"
check "remove" bow_remove bow0
