#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Flushes of the underlying device fail: so do checkpoint, fsync and commit, and where there is no FUA, first
# writes; rollback holds.
# timeout: 240
. "$(dirname "$0")/common/faults.sh"
modprobe -q sd_mod
trap 'undo >/dev/null 2>&1; rmmod scsi_debug; debug_finish' EXIT

# scsi_disk [KEY=VALUE]...: sets $disk, and $errors, which makes commands fail.
scsi_disk() {
    modprobe -q scsi_debug dev_size_mb=32 delay=0 "$@" || return
    for _ in $(seq 40); do
        for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
            [ ! -d "$disk" ] || break 2
        done
        sleep 0.5
    done
    [ -d "$disk" ] || return
    errors=$debugfs/scsi_debug/$(basename "$(readlink -f "$disk/device")")/error
    [ -e "$errors" ]
}
scsi_disk || skip_all "scsi_debug makes no disk whose commands fail"
plan 35
load_bow

# SYNCHRONIZE CACHE ends with: hardware error, timeout on logical unit.
flush_fails() {
    echo "2 1 0x35 0 0 0x2 0x4 0x3e 0x02" >"$errors"
}
flush_works() {
    echo "- 2 0x35" >"$errors"
}
put() {
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=4096 seek="$1" count=1 oflag=direct conv=notrunc status=none
}
get() {
    dd if="$1" bs=4096 skip="$2" count=1 iflag=direct status=none | sha256sum
}
error="(Input/output|Remote I/O) error|No data available|not permitted"

# up_to_the_first_write WHAT FUA. Nine results.
up_to_the_first_write() {
    local size free
    same "$1: the disk" "$2" "$(cat "$disk/queue/fua")"
    dev=/dev/${disk##*/}
    size=$(sectors_of "$dev")
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 "$dev" || bail "no device"
    exercise free /dev/mapper/bow0 "$((size / 2))+$((size / 4))" >/dev/null || bail "cannot discard"
    free=$(bow_free bow0)
    flush_fails
    fails "$1: a checkpoint is refused" "$error" bow_set bow0 1
    flush_works
    same "$1: state and free space are as before" "0 $free" "$(bow_state bow0) $(bow_free bow0)"
    check "$1: nothing has changed" exercise verify /dev/mapper/bow0
    check "$1: with flushes that work it is taken" checkpoint bow0
    check "$1: a first write" put 100
    flush_fails
    fails "$1: fsync is told" "$error" dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek=100 count=1 oflag=direct conv=notrunc,fsync status=none
    same "$1: which does the checkpoint no harm" ok "$(bow_field bow0 error)"
    check "$1: a changed block can be written" put 100
}

# from_the_commit_on WHAT. Five results.
from_the_commit_on() {
    fails "$1: the checkpoint cannot be committed" "$error" bow_set bow0 2
    same "$1: and stays" 1 "$(bow_state bow0)"
    flush_works
    bow_remove bow0
    both_readers "$1: after that" "$dev" as_saved
}

up_to_the_first_write "with FUA" 1
check "with FUA: a first write needs no flush" put 200
from_the_commit_on "with FUA"
rmmod scsi_debug

# With commands of 6 bytes a disk has none.
scsi_disk cdb_len=6 || bail "no second disk"
up_to_the_first_write "without FUA" 0
old=$(get "$dev" 200)
free=$(bow_free bow0)
fails "without FUA: a first write fails" "$error" put 200
same "without FUA: its block has not changed" "$old" "$(get "$dev" 200)"
same "without FUA: it might have been its place" $((free - 4096)) "$(bow_free bow0)"
free=$(bow_free bow0)
fails "without FUA: so do many at once" "$error" exercise run /dev/mapper/bow0 --mix write=1 --range 4096+8192 \
    --max 8 --depth 32 --ops 64 --no-verify
check "without FUA: which all their places cannot be to blame for" \
    test $((free - $(bow_free bow0))) -le $((4 * 4096))
same "without FUA: status is not of the log" ok "$(bow_field bow0 error)"
from_the_commit_on "without FUA"
echo "# covered: a flush that fails at the checkpoint, for a backup, at fsync, at the commit"
