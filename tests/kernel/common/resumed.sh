# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# A checkpoint over a raw device that goes on after the device was removed, any
# number of times, and is rolled back or committed then. A scenario sets what and dev, and may set
# those below; then it calls begin, each of turn as often as it likes, and roll_back or commit.

# shellcheck source=tests/kernel/common/bow.sh
. "$here/common/bow.sh"

# The bow device.
name=bow0
# Sectors that are free at the checkpoint, within the first ones, which is what is looked at.
free=12288+20480
window=0+32768
# Random bios between two removals.
ops=300

# reboot: what is below goes away, and comes again. May set dev.
reboot() { :; }

# stir WHAT SEED: writes and discards everywhere, so that backups, log blocks and the map move. 1 result.
stir() {
    exercise run "/dev/mapper/$name" --mix write=6,read=2,discard=1 --max 64 --ops "$ops" --seed "$2" \
        >"$work/run.out" 2>&1
    case $? in
    # 4: no space is left.
    0 | 4) ok "$1: writes, reads and discards" ;;
    *) not_ok "$1: writes, reads and discards" "$(cat "$work/run.out")" ;;
    esac
}

# begin [BOW-ARGUMENT]...: the checkpoint. 1 result.
results_begin=1
begin() {
    exercise fill "$dev" --window "$window" >/dev/null || bail "$what: cannot fill $dev"
    bow_create "$name" "$dev" "$@" || bail "$what: no device"
    exercise free "/dev/mapper/$name" "$free" >/dev/null || bail "$what: cannot discard"
    checkpoint "$name" || bail "$what: no checkpoint"
    stir "$what" 1
}

# turn NUMBER: away, and on with it.
results_turn=6
turn() {
    local what="$what, resume $1" fields=(state block_size sequence entries) field before after=()
    before=1
    for field in "${fields[@]:1}"; do before+=" $(bow_field "$name" "$field")"; done
    backup=$(bow_field "$name" backup)
    check "$what: remove" bow_remove "$name"
    reboot
    check "$what: create" bow_create "$name" "$dev" resume
    for field in "${fields[@]}"; do after+=("$(bow_field "$name" "$field")"); done
    same "$what: state and log" "$before" "${after[*]}"
    same "$what: backups" "$backup" "$(bow_field "$name" backup)"
    check "$what: the new data is read" exercise verify "/dev/mapper/$name"
    stir "$what" $(($1 + 1))
}

# roll_back: to the state before the first turn.
results_roll_back=4
roll_back() {
    check "$what: remove" bow_remove "$name"
    both_readers "$what" "$dev" as_saved
}

# commit: nothing is left that could go on.
results_commit=5
commit() {
    check "$what: remove" bow_remove "$name"
    check "$what: create once more" bow_create "$name" "$dev" resume
    check "$what: commit" bow_set "$name" 2
    check "$what: all reads are right" exercise verify "/dev/mapper/$name"
    bow_remove "$name" || bail "$what: cannot remove"
    fails "$what: a committed checkpoint is not resumed" "Invalid argument" bow_create "$name" "$dev" resume
}
