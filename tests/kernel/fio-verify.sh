#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fio with verify in state 1, while backups move out of its way; then rollback.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
command -v fio >/dev/null || skip_all "there is no fio"
plan 9
load_bow

dev=$(slice data 131072)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 32768+98304 >/dev/null || bail "cannot discard"
checkpoint bow0 || bail "no checkpoint"

# verified WHAT [FIO-OPTION]...
verified() {
    local what=$1
    shift
    check "$what" fio --name=bow --filename=/dev/mapper/bow0 --direct=1 --ioengine=libaio \
        --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 --output-format=terse "$@"
}

verified "random writes of 4 KiB, depth 16" --rw=randwrite --bs=4k --iodepth=16 --offset=0 --size=4m
verified "misaligned writes of odd sizes" --rw=randwrite --bsrange=512-64k --blockalign=512 \
    --iodepth=8 --offset=4m --size=2m
# Free space to the end, so that what was backed up must move, several times.
verified "sequential writes over free space" --rw=write --bs=256k --iodepth=4 --offset=22m --size=40m
verified "a mix with flushes" --rw=randrw --bs=4k --iodepth=8 --offset=0 --size=2m --fdatasync=16
check "backups moved" test "$(bow_field bow0 moved)" -gt 0
check "remove" bow_remove bow0
both_readers "fio" "$dev" as_saved
