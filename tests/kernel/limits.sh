#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The limits are the bare device's, whatever block_size is, before and after the checkpoint.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 11
load_bow

# What a file system decides by: the same as dm-linear shows of the same device.
limits() {
    local queue
    queue=/sys/block/$(dmsetup info -c --noheadings -o blkdevname "$1")/queue
    (cd "$queue" && grep -H . logical_block_size physical_block_size minimum_io_size \
        optimal_io_size dma_alignment write_cache fua rotational)
}

for block in 512 4096; do
    dev=$(slice "data$block" 16384 "$(test_disk "$block")")
    dmsetup create test-linear --table "0 16384 linear $dev 0" || bail "no linear device"
    wanted=$(limits test-linear)
    [ -n "$wanted" ] || bail "no limits"
    dmsetup remove --retry test-linear
    for size in 4096 512; do
        [ "$size" -ge "$block" ] || continue
        bow_create bow0 "$dev" "block_size:$size" || bail "no device"
        same "$block-byte blocks, block_size:$size" "$wanted" "$(limits bow0)"
        check "discards are taken" test "$(cat "/sys/block/$(dmsetup info -c --noheadings \
            -o blkdevname bow0)/queue/discard_max_bytes")" -gt 0
        blkdiscard -qf -o 1M -l 4M /dev/mapper/bow0 || bail "cannot discard"
        bow_set bow0 1 || bail "no checkpoint"
        same "the same in state 1" "$wanted" "$(limits bow0)"
        bow_set bow0 2 || bail "no commit"
        bow_remove bow0
    done
done

# A 1 KiB file system must mount whatever block_size is: what the C driver could not do.
dev=$(slice fs 131072)
mkfs.ext4 -q -b 1024 "$dev"
bow_create bow0 "$dev" block_size:4096 || bail "no device"
check "1 KiB ext4 mounts at block_size:4096" mount /dev/mapper/bow0 "$mnt"
check "and unmounts" umount "$mnt"
