#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Every shape of bio, on 4096-byte logical blocks.
# timeout: 120
. "$(dirname "$0")/lib.sh"
. "$here/common/raw.sh"
plan $((results_history + 3))
load_bow

size=32776
free=(8000+24000)
busy=(0+4504 7000+3000 "31000+$((size - 31000))")
dev=$(slice data "$size" "$(test_disk 4096)")
same "the disk has 4096-byte blocks" 4096 "$(blockdev --getss "$dev")"
history on_full:error
fails "a block_size below the logical block is refused" "block_size" \
    bow_create bow0 "$dev" block_size:512
bow_create bow0 "$dev"
same "the device has them too" 4096 "$(blockdev --getss /dev/mapper/bow0)"
