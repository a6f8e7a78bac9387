# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# A raw device's way through bow under random bios of every shape. A scenario
# sets dev, and free and busy: the ranges that are discarded before the
# checkpoint (whole blocks, not overlapping), and those that are written after it (few enough that what they
# touch fits into free), then calls history.

# shellcheck source=tests/kernel/common/bow.sh
. "$here/common/bow.sh"

# prepare [BOW-ARGUMENT]...: state 0 with free space. 3 results.
prepare() {
    check "$what: create" bow_create bow0 "$dev" "$@" || bail "no device"
    check "$what: discards in odd, overlapping pieces" \
        exercise free /dev/mapper/bow0 --shred 37 "${free[@]}"
    local range sectors=0
    for range in "${free[@]}"; do sectors=$((sectors + ${range#*+})); done
    same "$what: all of it is free" $((sectors * 512)) "$(bow_free bow0)"
}

# load SEED [OPTION]...: random bios on the busy ranges.
load() {
    local seed=$1 range ranges=()
    shift
    for range in "${busy[@]}"; do ranges+=(--range "$range"); done
    exercise run /dev/mapper/bow0 --seed "$seed" "${ranges[@]}" "$@"
}

# history [BOW-ARGUMENT]...: a checkpoint that is rolled back and one that is kept.
results_history=20
history() {
    what="${*:-defaults}, rollback"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    prepare "$@"
    check "$what: bios in state 0" load 1 --ops 200 --max 64
    check "$what: checkpoint" checkpoint bow0
    check "$what: bios in state 1" load 2 --ops 400 --read-back
    check "$what: remove" bow_remove bow0
    both_readers "$what" "$dev" as_saved

    what="${*:-defaults}, commit"
    cp "$saved" "$model"
    prepare "$@"
    check "$what: checkpoint" checkpoint bow0
    check "$what: bios in state 1" load 3 --ops 200
    check "$what: commit" bow_set bow0 2
    check "$what: bios in state 2" load 4 --ops 100
    check "$what: remove" bow_remove bow0
    no_log "$what" "$dev"
    check "$what: the bare device holds what was written" exercise verify "$dev"
}
