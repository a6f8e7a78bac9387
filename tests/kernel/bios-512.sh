#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Every shape of bio, on 512-byte logical blocks: block_size 512, 1024 and 4096, odd device sizes.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/raw.sh"
plan $((3 * results_history + 1))
load_bow

# The start, where the first block lives; the border between what is free and
# what is not; the end of the device.
free=(8000+24000)
for block in 512 1024 4096; do
    size=$((32768 + block / 512))
    busy=(0+4500 7000+3000 "31000+$((size - 31000))")
    dev=$(slice "data$block" "$size")
    if [ "$block" = 4096 ]; then
        history
    else
        history "block_size:$block"
    fi
done

dev=$(slice odd 8194)
bow_create bow0 "$dev"
same "the default block_size" 4096 "$(bow_field bow0 block_size)"
