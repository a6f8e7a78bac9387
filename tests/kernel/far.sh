#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A sparse device of 16 TiB: arithmetic at its far end and where 32 bits end.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-zero dm-snapshot
plan 19
load_bow

# 16 TiB that read as zeroes, with what is written kept on the test disk.
size=$((1 << 35))
store=$(slice store 131072)
dmsetup create test-zero --table "0 $size zero" && dmsetup mknodes
dmsetup create test-far --table "0 $size snapshot /dev/mapper/test-zero $store N 8" ||
    bail "no sparse device"
dmsetup mknodes
dev=/dev/mapper/test-far

# Windows at the start, across 2^32 sectors (2 TiB), and at the very end.
windows=(0+2048 4294965248+4096 34359736320+2048)
each() { # COMMAND DEVICE MODEL-SUFFIX [OPTION]...
    local command=$1 device=$2 suffix=$3 w
    shift 3
    for w in 0 1 2; do
        bow-exercise "$command" "$device" --model "$work/model.$w$suffix" "$@" || return
    done
}
for w in 0 1 2; do
    check "fill ${windows[w]}" bow-exercise fill "$dev" --model "$work/model.$w" \
        --window "${windows[w]}" --seed "$w"
done
check "create" bow_create bow0 "$dev" || bail "no device"
same "block_size" 4096 "$(bow_field bow0 block_size)"
# All but the windows is free.
check "discards of 2 and 14 TiB" sh -c "
    blkdiscard -qf -o $((2048 * 512)) -l $(((4294965248 - 2048) * 512)) /dev/mapper/bow0 &&
    blkdiscard -qf -o $((4294969344 * 512)) -l $(((34359736320 - 4294969344) * 512)) /dev/mapper/bow0"
same "free" $(((size - 2048 - 4096 - 2048) * 512)) "$(bow_free bow0)"
for w in 0 1 2; do cp "$work/model.$w" "$work/model.$w.saved"; done
check "checkpoint" bow_set bow0 1
check "bios in all windows" each run /dev/mapper/bow0 "" --ops 150 --max 128
check "reads are right" each verify /dev/mapper/bow0 ""
check "remove" bow_remove bow0
check "the independent reader finds nothing wrong" python3 -I -S "$reader" verify "$dev"
check "bowctl rolls back" bowctl restore "$dev"
check "as at the checkpoint" each verify "$dev" .saved

for w in 0 1 2; do cp "$work/model.$w.saved" "$work/model.$w"; done
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 8T -l 1G /dev/mapper/bow0
bow_set bow0 1 || bail "no checkpoint"
check "bios once more" each run /dev/mapper/bow0 "" --ops 50 --max 128 --seed 2
check "free has shrunk" test "$(bow_free bow0)" -lt $((1 << 30))
check "commit" bow_set bow0 2
check "remove" bow_remove bow0
check "as written" each verify "$dev" ""
