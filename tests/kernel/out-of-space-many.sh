#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# More writes wait for space than dm-bow takes: who submits more sleeps, or gets EAGAIN; discards, the first block, a commit do not wait.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
command -v fio >/dev/null || skip_all "there is no fio"
plan 9
load_bow

dev=$(slice data 65536)
bow_create bow0 "$dev" on_full:wait || bail "no device"
blkdiscard -qf -o 24M -l 256K /dev/mapper/bow0 && bow_set bow0 1 || bail "no checkpoint"
# Written in state 1, so that its discard gives space back.
dd if=/dev/zero of=/dev/mapper/bow0 bs=32K seek=768 count=1 oflag=direct conv=notrunc status=none || bail "no write"
# A write every other block, 2000 at a time.
fio_writes 10 2000 &
many=$!
# sleeps: the process that submits is not to be disturbed.
sleeps() {
    grep -q "^State:.D" "/proc/$(pgrep -P "$many" | head -n 1)/status"
}
for _ in {1..200}; do
    [ "$(bow_field bow0 error)" != full ] || ! sleeps || break
    sleep 0.3
done
sleep 1
check "who submits more sleeps" sleeps
fails "who may not wait is told" "temporarily unavailable" nowait write 40000
check "the first block is read" timeout 20 dd if=/dev/mapper/bow0 of=/dev/null bs=4096 count=1 iflag=direct status=none
check "and written" timeout 20 dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 count=1 oflag=direct conv=notrunc status=none
backup=$(bow_field bow0 backup)
check "a discard does not wait" timeout 20 blkdiscard -qf -o 24M -l 32K /dev/mapper/bow0
for _ in {1..100}; do
    [ "$(bow_field bow0 backup)" = "$backup" ] || break
    sleep 0.1
done
check "and gives space, which is used" test "$(bow_field bow0 backup)" -gt "$backup"
check "a commit does not wait" timeout 60 dmsetup message bow0 0 commit
wait "$many"
same "all writes go on" 0 $?
check "remove" bow_remove bow0
