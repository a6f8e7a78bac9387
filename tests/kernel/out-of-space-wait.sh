#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Without space for a backup a write waits: for a discard, for another policy, for a commit; a suspend ends the wait.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 19
load_bow

dev=$(slice data 16384)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"

# full: a device in state 1 whose free space is taken, but for what a writer has just filled.
full() {
    bow_create bow0 "$dev" on_full:wait || bail "no device"
    exercise free /dev/mapper/bow0 8192+512 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    exercise run /dev/mapper/bow0 --range 8192+128 --mix write=1 --max 128 --ops 10 >/dev/null || bail "cannot write"
}

# writer: first writes in the background, of more than there is space for.
writer() {
    dd if=/dev/zero of=/dev/mapper/bow0 bs=4k count=200 seek=10 oflag=direct conv=notrunc \
        2>"$work/writer.out" &
    writer=$!
    for _ in {1..300}; do
        [ "$(bow_field bow0 error)" = full ] && break
        sleep 0.1
    done
    same "$1: no space is left, which status says" full "$(bow_field bow0 error)"
    sleep 1
    check "$1: the writer waits" kill -0 "$writer"
}

writer_ends() { # WHAT STATUS
    timeout 60 tail --pid="$writer" -f /dev/null
    wait "$writer"
    same "$1" "$2" $?
}

full
writer "a discard"
check "a discard: reads do not wait" \
    timeout 60 dd if=/dev/mapper/bow0 of=/dev/null bs=1M iflag=direct status=none
before=$(bow_field bow0 backup)
blkdiscard -qf -o $((8192 * 512)) -l $((128 * 512)) /dev/mapper/bow0 || bail "cannot discard"
sleep 2
check "a discard: gives space, and backups are made" test "$(bow_field bow0 backup)" -gt "$before"
check "another policy: the message is taken" bow_message bow0 "on_full error"
writer_ends "another policy: the writer fails" 1
check "another policy: with ENOSPC" grep -qi "no space left" "$work/writer.out"
same "another policy: the table says so" on_full:error "$(dmsetup table bow0 | grep -o 'on_full:[a-z]*')"
check "another policy: remove" bow_remove bow0
bowctl restore "$dev" >/dev/null || bail "cannot restore"

full
writer "a suspend"
check "a suspend: is not held up" timeout 60 dmsetup suspend bow0
writer_ends "a suspend: the writer fails" 1
check "a suspend: resume" dmsetup resume bow0

writer "a commit"
check "a commit: is not held up" timeout 60 bash -c "$(declare -f bow_set bow_sysfs); bow_set bow0 2"
writer_ends "a commit: the writer goes on" 0
check "a commit: remove" bow_remove bow0
