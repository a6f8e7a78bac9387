#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A write that needs no space goes on, however many wait for space before it.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
command -v fio >/dev/null || skip_all "there is no fio"
need_module dm-delay
plan 6
load_bow

sectors=16384
dev=$(slice data $sectors)
block=20
# writes NAME: a write to that block, of which the first of the many writes has a backup made, is answered.
writes() {
    dd if=/dev/zero of=/dev/mapper/bow0 bs=4k count=1 seek="$block" oflag=direct conv=notrunc status=none &
    check "$1" timeout 40 tail --pid=$! -f /dev/null
}

delays 0 0 || bail "no dm-delay"
bow_create bow0 /dev/mapper/test-delay block_size:4096 on_full:wait || bail "no device"
blkdiscard -qf -o $((8192 * 512)) -l $((512 * 512)) /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 && delays 2000 2000 || bail "no checkpoint"
free=$(bow_field bow0 free)
fio_writes "$block" 300 &
many=$!
# The first batch begins, and takes three I/Os of the slow device.
for _ in {1..300}; do
    [ "$(bow_field bow0 free)" = "$free" ] || break
    sleep 0.1
done
sleep 1

writes "a write to a block that is being backed up"
for _ in {1..300}; do
    [ "$(bow_field bow0 error)" = full ] && break
    sleep 0.1
done
same "no space is left" full "$(bow_field bow0 error)"
check "others wait for space" kill -0 "$many"
writes "and one after that"
delays 0 0 || bail "the delay stays"
check "another policy is taken" bow_message bow0 "on_full error"
wait
check "remove" bow_remove bow0
dmsetup remove test-delay
