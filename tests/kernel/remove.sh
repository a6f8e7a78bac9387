#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Removal at any time: refused while open, forced under load, and the module stays while in use.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 17
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"

bow_create bow0 "$dev" || bail "no device"
fails "the module cannot be unloaded while there is a device" "in use" rmmod dm_bow
check "removal in state 0" bow_remove bow0
same "leaves nothing behind" "" "$(dmsetup ls | grep -w bow0)"

bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 16384+16384 >/dev/null || bail "cannot discard"
checkpoint bow0 || bail "no checkpoint"
load_begin /dev/mapper/bow0 --range 0+8000 --depth 16
fails "removal under load is refused" "busy" dmsetup remove bow0
check "and does no harm" kill -0 "$load"
# Forced: the table becomes one of errors, whatever is in flight.
dmsetup remove --force bow0 >/dev/null 2>&1
wait "$load"
status=$?
same "the load gets errors ($(load_said))" 3 "$status"
check "then it is removed" sh -c '! dmsetup info bow0 >/dev/null 2>&1 || dmsetup remove --retry bow0'
both_readers "torn away" "$dev" as_saved

# Between two states, again and again.
cp "$saved" "$model"
for round in 1 2 3 4 5 6; do
    bow_create bow0 "$dev" && exercise free /dev/mapper/bow0 16384+16384 >/dev/null &&
        checkpoint bow0 && exercise run /dev/mapper/bow0 --ops 20 --seed "$round" >/dev/null || break
    [ $((round % 2)) = 0 ] || bow_set bow0 2 || break
    bow_remove bow0 || break
    if [ $((round % 2)) = 0 ]; then
        bowctl restore "$dev" >/dev/null 2>&1 || break
        cp "$saved" "$model"
    fi
    exercise verify "$dev" >/dev/null || break
    round=finished
done
same "six checkpoints one after the other, kept and rolled back in turn" finished "$round"

bow_create bow0 "$dev" || bail "no device"
check "a device that is suspended can be removed" sh -c 'dmsetup suspend bow0 && dmsetup remove bow0'
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 16384+16384 >/dev/null
checkpoint bow0 || bail "no checkpoint"
check "in state 1 too" sh -c 'dmsetup suspend bow0 && dmsetup remove bow0'
both_readers "suspended and removed" "$dev" as_saved
check "with no device the module unloads" unload_bow
loaded=0
