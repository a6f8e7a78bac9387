#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Flushes of the device below fail: so do checkpoint, first writes and fsync; rollback holds.
# timeout: 120
. "$(dirname "$0")/common/faults.sh"
modprobe -q scsi_debug dev_size_mb=32 delay=0 || skip_all "the kernel has no scsi_debug"
# Without udev nobody loads what drives the disk.
modprobe -q sd_mod
for _ in $(seq 40); do
    for disk in /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*; do
        [ ! -d "$disk" ] || break 2
    done
    sleep 0.5
done
[ -d "$disk" ] || skip_all "scsi_debug made no disk"
address=$(basename "$(readlink -f "$disk/device")")
errors=$debugfs/scsi_debug/$address/error
trap 'undo >/dev/null 2>&1; rmmod scsi_debug; debug_finish' EXIT
[ -e "$errors" ] || skip_all "scsi_debug cannot make commands fail here"
plan 16
load_bow

dev=/dev/${disk##*/}
size=$(sectors_of "$dev")
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"

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

bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 "$((size / 2))+$((size / 4))" >/dev/null || bail "cannot discard"
free=$(bow_free bow0)
flush_fails
fails "a checkpoint is refused" "$error" bow_set bow0 1
flush_works
same "state and free space are as before" "0 $free" "$(bow_state bow0) $(bow_free bow0)"
check "nothing has changed" exercise verify /dev/mapper/bow0
check "with flushes that work it is taken" checkpoint bow0
check "a first write" put 100
flush_fails
fails "fsync is told" "$error" dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek=100 count=1 oflag=direct conv=notrunc,fsync status=none
same "which does the checkpoint no harm" ok "$(bow_field bow0 error)"
old=$(get "$dev" 200)
fails "a first write fails" "$error" put 200
same "its block has not changed" "$old" "$(get "$dev" 200)"
same "status says that the log has failed" failed "$(bow_field bow0 error)"
check "a changed block can be written" put 100
fails "the checkpoint cannot be given up" "$error" bow_set bow0 2
same "and stays" 1 "$(bow_state bow0)"
flush_works
bow_remove bow0
both_readers "after that" "$dev" as_saved
echo "# covered: a flush that fails at the checkpoint, in the log write, at fsync, at the commit"
