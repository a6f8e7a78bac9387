#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The free counter of state 0 follows discards and writes, sector by sector.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 13
load_bow
trap 'undo >/dev/null 2>&1; null_undo; finish' EXIT

# discard FIRST COUNT, in sectors
discard() {
    blkdiscard -qf -o $(($1 * 512)) -l $(($2 * 512)) /dev/mapper/bow0
}
write() {
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=512 seek="$1" count="$2" oflag=direct status=none
}

dev=$(slice data 65536)
bow_create bow0 "$dev" block_size:4096 || bail "no device"
same "nothing is free at first" 0 "$(bow_free bow0)"
discard 800 8
same "one block" 4096 "$(bow_free bow0)"
discard 800 8
same "the same once more" 4096 "$(bow_free bow0)"
discard 1600 4
same "half a block counts as what it is" 6144 "$(bow_free bow0)"
discard 1604 4
same "two halves are" 8192 "$(bow_free bow0)"
discard 1596 24
same "what surrounds it joins on" 16384 "$(bow_free bow0)"
discard 1001 14
same "a misaligned discard, down to the sector" 23552 "$(bow_free bow0)"
discard 1015 1
discard 1000 1
same "and its neighbours complete the rest" 24576 "$(bow_free bow0)"
write 1000 1
same "a write of one sector takes that" 24064 "$(bow_free bow0)"
write 1004 16
same "a write across blocks takes what it touches" 17920 "$(bow_free bow0)"
same "status has it in sectors" $((17920 / 512)) "$(bow_field bow0 free)"
bow_remove bow0

dev=$(null_device nodiscard size=32 discard=0) || bail "no null_blk"
bow_create bow0 "$dev" block_size:4096 || bail "no device"
same "the disk below cannot discard" 0 "$(cat "/sys/block/${dev##*/}/queue/discard_max_bytes")"
discard 800 80
same "and bow takes discards all the same" 40960 "$(bow_free bow0)"
