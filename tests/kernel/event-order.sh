#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Whoever is woken by an event, or gets an error, finds the reason in the status.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 7
# On one CPU whoever is woken, if that is urgent, runs before the worker goes on.
offline=()
for cpu in /sys/devices/system/cpu/cpu*/online; do
    if [ "$cpu" != /sys/devices/system/cpu/cpu0/online ] && [ "$(cat "$cpu")" = 1 ] && echo 0 >"$cpu"; then
        offline+=("$cpu")
    fi
done
trap 'for cpu in ${offline[@]+"${offline[@]}"}; do echo 1 >"$cpu"; done; finish' EXIT
echo "# CPUs: $(nproc)"
load_bow

dev=$(slice data 32768)
bad="0 8 error
8 32760 linear $dev 8"
good="0 32768 linear $dev 0"
dmsetup create test-lower --table "$good" || bail "no lower device"
dmsetup mknodes

# woken: the status as seen by one that waits for the next event and is urgent.
woken() {
    local before
    before=$(events bow0)
    # All that is needed is in memory: no disk is waited for.
    chrt -f 50 bash -c 'dmsetup wait bow0 0; dmsetup status bow0' >/dev/null
    chrt -f 50 bash -c 'dmsetup wait bow0 "$1"; dmsetup status bow0' sh "$before" >"$work/woken" &
    waiter=$!
    sleep 2
}
see() { # NAME WANTED
    wait "$waiter"
    same "$1" "$2" "$(awk '{ print $NF }' "$work/woken")"
}
ready() { # ARGUMENT
    bow_create bow0 /dev/mapper/test-lower "$1" || bail "no device"
    blkdiscard -qf -o 8M -l 128K /dev/mapper/bow0 || bail "cannot discard"
    bow_set bow0 1 || bail "no checkpoint"
}
put() { # BLOCK [COUNT]
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=4096 seek="$1" count="${2:-1}" oflag=direct conv=notrunc status=none
}

ready on_full:error
put_table test-lower "$bad" || bail "no bad table"
woken
fails "the log cannot be written" "Input/output error" chrt -f 50 bash -c \
    'dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek=100 count=1 oflag=direct status=none ||
     { dmsetup status bow0 >"$1"; exit 1; }' sh "$work/writer"
see "and an event says so when the status does" failed
same "so does the writer's error" failed "$(awk '{ print $NF }' "$work/writer")"
put_table test-lower "$good" || bail "no good table"
bow_remove bow0
dd if=/dev/zero of="$dev" bs=4096 count=1 oflag=direct status=none

ready on_full:commit
# Until the next block finds no place, for itself or for the log block that is full before it.
block=100
while true; do
    case "$(bow_field bow0 free) $(bow_field bow0 entries)" in
    "0 "* | "8 18") break ;;
    esac
    put "$block" || bail "cannot write"
    block=$((block + 30))
done
put_table test-lower "$bad" || bail "no bad table"
woken
fails "a commit that the policy wants fails" "Input/output error" put "$block"
see "and an event says so when the status does" failed
put_table test-lower "$good" || bail "no good table"
bow_remove bow0
dd if=/dev/zero of="$dev" bs=4096 count=1 oflag=direct status=none

ready block_size:512
put_table test-lower "$bad" || bail "no bad table"
woken
fails "a commit fails in the write that decides" "Input/output error" bow_set bow0 2
see "and an event says so when the status does" failed
put_table test-lower "$good" || bail "no good table"
