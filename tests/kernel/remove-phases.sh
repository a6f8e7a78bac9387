#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The table goes while copies that nobody waits for any more are in any of their phases: no write follows.
# timeout: 400
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-delay
load_bow

size=32768 block=8 free=20480 room=512 delay=250
phases="read backup apart full log"
ways="remove force deferred linear error unload"
plan 31

dev=$(slice data $size)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
dd if="$dev" of="$work/first" bs=4096 count=1 status=none
numbers=$(lsblk -dno MAJ:MIN "$dev" | tr -d ' ')

# part START SECTORS TARGET [READ-MS WRITE-MS]: a line of a table over the device.
part() {
    case $3 in
    delay) echo "$1 $2 delay $dev $1 $4 $dev $1 $5" ;;
    linear) echo "$1 $2 linear $dev $1" ;;
    error) echo "$1 $2 error" ;;
    esac
}
# below PHASE: the table of an underlying device that is slow in that phase only. The free space is filled
# upwards with backups, downwards with full log blocks.
below() {
    local middle=$((free + room / 2)) end=$((free + room))
    case $1 in
    none) part 0 $size linear ;;
    read) part 0 $size delay $delay 0 ;;
    backup) part 0 $free linear && part $free $room delay 0 $delay && part $end $((size - end)) linear ;;
    apart)
        # A bad place in the middle: what was written in one go is written again in pieces.
        part 0 $free linear && part $free $((middle - free)) delay 0 $delay && part $middle $block error &&
            part $((middle + block)) $((end - middle - block)) delay 0 $delay && part $end $((size - end)) linear
        ;;
    full)
        part 0 $((end - block)) linear && part $((end - block)) $block delay 0 $delay &&
            part $end $((size - end)) linear
        ;;
    log) part 0 $block delay 0 $delay && part $block $((size - block)) linear ;;
    esac
}
slow() {
    below "$1" | dmsetup load test-below && dmsetup resume test-below
}

# begin PHASE: state 1, and a write that has just failed for want of space. $disk is in sysfs.
begin() {
    local number
    slow none && dmsetup create bow0 --table "0 $size bow /dev/mapper/test-below" && dmsetup mknodes bow0 &&
        disk=/sys/block/$(dmsetup info -c --noheadings -o blkdevname bow0) &&
        blkdiscard -qf -o $((free << 9)) -l $((room << 9)) /dev/mapper/bow0 && echo 1 >"$disk/bow/state" || return
    if [ "$1" = full ]; then
        # With that of the first block they fill the log block.
        for number in {1..16}; do
            dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek=$((number * 10)) count=1 oflag=direct \
                status=none || return
        done
    fi
    slow "$1" || return
    ! dd if=/dev/zero of=/dev/mapper/bow0 bs=1M count=1 seek=2 oflag=direct status=none 2>"$work/dd" &&
        [[ $(<"$work/dd") == *"No space"* ]]
}

# gone: a removal that was put off is done by a work item of device mapper's, which takes away the name
# first and the disk last.
gone() {
    for _ in {1..200}; do
        [ -e "$disk" ] || return 0
        sleep 0.05
    done
    return 1
}
end() {
    case $1 in
    remove) dmsetup remove bow0 ;;
    force) dmsetup remove --force bow0 2>/dev/null; gone ;;
    deferred)
        exec 9</dev/mapper/bow0
        dmsetup remove --deferred bow0
        exec 9<&-
        gone
        ;;
    linear) dmsetup load bow0 --table "0 $size linear /dev/mapper/test-below 0" && dmsetup resume bow0 ;;
    error) dmsetup load bow0 --table "0 $size error" && dmsetup resume bow0 ;;
    unload) dmsetup remove bow0 && rmmod dm_bow ;;
    esac
}
written() {
    local fields
    read -r -a fields <"/sys/dev/block/$numbers/stat"
    echo "${fields[4]}"
}

below none | dmsetup create test-below && dmsetup mknodes || bail "no device"
disk=/none
again() { # WAY: as at the start, for the next one.
    [ ! -e "$disk" ] || dmsetup remove --retry bow0
    [ "$1" != unload ] || load_bow
    dd if="$work/first" of="$dev" bs=4096 oflag=direct conv=notrunc status=none
}
# What each way takes by itself, in milliseconds.
declare -A alone
for way in $ways; do
    begin none || bail "it did not begin: $(cat "$work/dd")"
    began=${EPOCHREALTIME/./}
    end "$way" || bail "it did not end: $way"
    alone[$way]=$(((${EPOCHREALTIME/./} - began) / 1000))
    again "$way"
done
waited=0
for phase in $phases; do
    for way in $ways; do
        said="" before="" after=""
        if ! begin "$phase"; then
            said="it did not begin: $(cat "$work/dd")"
        else
            began=${EPOCHREALTIME/./}
            end "$way" || said="it did not end"
            [ $(((${EPOCHREALTIME/./} - began) / 1000)) -lt $((alone[$way] + delay / 2)) ] || waited=$((waited + 1))
            dd if="$dev" of="$work/now" bs=4096 count=1 iflag=direct status=none
            before="$(written) writes, the same first block"
            # What follows the slow phase is fast; one that is gone through again is not.
            sleep 0.33
            after="$(written) writes, $(dd if="$dev" bs=4096 count=1 iflag=direct status=none |
                cmp - "$work/now" 2>&1 && echo the same first block)"
        fi
        same "$phase, $way: no write after it" "$before" "$said$after"
        again "$way"
    done
done
check "most of the $waited had to wait" test "$waited" -gt 10
