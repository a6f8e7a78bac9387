#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Over encryption, RAID and other layers, partitions and whole disks a checkpoint goes on twice, and rolls back or is kept.
# timeout: 600
# shellcheck disable=SC2119,SC2317 # of functions that the shared files call, or that are called by name
. "$(dirname "$0")/lib.sh"
. "$here/common/resumed.sh"
. "$here/common/layers.sh"

layers=(crypt linear md loop nbd)
results_restore=3
results_once=$((results_begin + 2 * results_turn + results_restore))
plan $(((${#layers[@]} + 2) * results_once + 2 * (results_begin + 2 * results_turn) + results_restore + results_commit))
load_bow
# What is left is no more than fits on the smallest device.
free=8192+20480 window=0+28672 ops=80

# restore: to the first state.
restore() {
    check "$what: remove" bow_remove "$name"
    check "$what: bowctl rolls back" bowctl restore "$dev"
    check "$what: every sector that was not free is as at the checkpoint" as_saved "$dev"
}

# once: a checkpoint over dev.
once() {
    begin
    turn 1
    turn 2
    restore
}

for what in "a whole disk of 512-byte blocks" "a whole disk of 4096-byte blocks"; do
    block=${what//[!0-9]/}
    dev=$(test_disk "$block")
    wipefs -qa "$dev"
    once
done

# both COMMAND...: of two partitions of one disk, each with its own device and model.
both() {
    local number
    for number in 0 1; do
        what="partition $((number + 1)) of two" name=bow$number dev=${parts[number]}
        model=$work/model-$number saved=$work/saved-$number
        "$@"
    done
}
mapfile -t parts < <(partitions "$(test_disk)" 28672 28679)
both begin
both turn 1
reboot() { blockdev --rereadpt "$(test_disk)" 2>/dev/null; }
both turn 2
reboot() { :; }
end() {
    if [ "$number" = 0 ]; then restore; else commit; fi
}
both end
name=bow0 model=$work/model saved=$work/model-at-checkpoint

under || bail "no devices"
reboot() { "${layer}_down" && "${layer}_up" || bail "$what: does not come again"; }
for layer in "${layers[@]}"; do
    what="over $layer"
    needs=${layer}_needs
    for module in ${!needs:-}; do
        modprobe -q "$module" || {
            for _ in $(seq $results_once); do skip "$what" "the kernel has no $module"; done
            continue 2
        }
    done
    "${layer}_up" || bail "$what: cannot be made"
    once
    "${layer}_down" || bail "$what: does not go away"
done
