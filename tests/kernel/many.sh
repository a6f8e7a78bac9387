#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Eight devices at once: each keeps to itself, under load, through both ends.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 11
load_bow

# in_parallel FUNCTION: for devices 1 to 8 at once; fails when one does.
in_parallel() {
    local n jobs=() bad=0
    for n in 1 2 3 4 5 6 7 8; do
        "$1" "$n" >"$work/out.$n" 2>&1 &
        jobs[n]=$!
    done
    for n in 1 2 3 4 5 6 7 8; do
        wait "${jobs[n]}" || { bad=1; echo "device $n: $(cat "$work/out.$n")"; }
    done
    return "$bad"
}

ex() { # COMMAND N DEVICE [OPTION]...
    local command=$1 n=$2 device=$3
    shift 3
    bow-exercise "$command" "$device" --model "$work/model.$n" "$@"
}

for n in 1 2 3 4 5 6 7 8; do devices[n]=$(slice "data$n" 16384); done
fill() { ex fill "$1" "${devices[$1]}" --seed "$1"; }
# Four sizes of block: nothing of one device may leak into another.
create() {
    bow_create "bow$1" "${devices[$1]}" "block_size:$((512 << $1 % 4))" &&
        ex free "$1" "/dev/mapper/bow$1" --shred 50 8192+8192
}
to_1() { cp "$work/model.$1" "$work/saved.$1" && bow_set "bow$1" 1; }
load() { ex run "$1" "/dev/mapper/bow$1" --seed "$1" --ops 150 --range 0+3000 --depth 4; }
# Odd ones are kept, even ones rolled back, at the same time.
end() {
    [ $(($1 % 2)) = 0 ] || bow_set "bow$1" 2 || return
    bow_remove "bow$1" || return
    [ $(($1 % 2)) = 1 ] || bowctl restore "${devices[$1]}"
}
right() {
    [ $(($1 % 2)) = 1 ] || cp "$work/saved.$1" "$work/model.$1"
    ex verify "$1" "${devices[$1]}"
}

check "filled" in_parallel fill
check "created" in_parallel create
dmsetup mknodes
check "checkpoints" in_parallel to_1
for n in 2 7; do same "device $n is in state 1" 1 "$(bow_state "bow$n")"; done
check "bios" in_parallel load
fails "the module stays" "in use" rmmod dm_bow
check "kept and rolled back" in_parallel end
check "every device holds what it should" in_parallel right
same "none is left" "" "$(dmsetup ls | grep ^bow)"
check "and the module unloads" unload_bow
loaded=0
