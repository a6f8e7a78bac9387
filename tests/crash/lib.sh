# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# What the recordings of the crash sweep share. Runs in the guest, sourced by
# `record`. The devices stand on each other like this:
#
#     upper   dm-log-writes: what the workload sends to bow
#     bow0    the target
#     lower   dm-log-writes: what bow sends down
#     late    dm-linear and dm-delay in turns, so that writes do not end in the
#             order in which they began
#     /dev/bow/crash
#
# dm-log-writes keeps the data, but says nothing of when a write began, and not
# where one that nobody flushed ended. So the kernel's block events of `late`
# and of bow0 are traced beside it, with a clock that counts events, which puts
# all of both levels, and the marks, into one order.

tracing=/sys/kernel/tracing
# Room for a recording on each of the disks that the host keeps, in MiB.
room=512

fail() {
    echo "bow-crash: $name: $*"
    exit 1
}

create() { # NAME TABLE-LINES
    dmsetup create "$1" <<<"$2" || fail "no device $1"
    dmsetup mknodes "$1"
}

number_of() { # NAME: as trace filters have it
    local numbers
    numbers=$(dmsetup info -c --noheadings -o major,minor --separator , "$1")
    echo $((${numbers%,*} << 20 | ${numbers#*,}))
}

# mark WORD...: from here on the word holds.
mark() {
    echo "bow-crash: $*" >"$tracing/trace_marker"
}

# late_table SECTORS OFFSET DELAYS: a line a stretch, with these delays (ms) in
# turn.
late_table() {
    local at=0 length=$((($1 / 16 + 7) / 8 * 8)) turn=0
    local -a delays
    read -ra delays <<<"$3"
    while [ "$at" -lt "$1" ]; do
        [ $((at + length)) -le "$1" ] || length=$(($1 - at))
        local delay=${delays[turn % ${#delays[@]}]} place="/dev/bow/crash $(($2 + at))"
        if [ "$delay" = 0 ]; then
            echo "$at $length linear $place"
        else
            echo "$at $length delay $place 0 $place $delay $place 0"
        fi
        at=$((at + length)) turn=$((turn + 1))
    done
}

# stack SECTORS [BOW-ARG]...: makes the devices and begins to record.
stack() {
    sectors=$1
    shift
    arguments="$*"
    create late "$(late_table "$sectors" $((index * room * 2048)) "${delays:-0 4 0 8}")"
    create lower-log "0 $((room * 2048)) linear /dev/bow/lower $((index * room * 2048))"
    create upper-log "0 $((room * 2048)) linear /dev/bow/upper $((index * room * 2048))"
    create lower "0 $sectors log-writes /dev/mapper/late /dev/mapper/lower-log"
    create bow0 "0 $sectors bow /dev/mapper/lower${arguments:+ $# $arguments}"
    create upper "0 $sectors log-writes /dev/mapper/bow0 /dev/mapper/upper-log"
    device=/dev/mapper/upper
    late=$(number_of late) bow=$(number_of bow0)
    sysfs=/sys/block/$(dmsetup info -c --noheadings -o blkdevname bow0)/bow

    echo 0 >"$tracing/tracing_on"
    echo counter >"$tracing/trace_clock"
    echo 98304 >"$tracing/buffer_size_kb"
    echo >"$tracing/trace"
    local event
    for event in block_bio_queue block_bio_complete; do
        echo "dev == $late || dev == $bow" >"$tracing/events/block/$event/filter"
        echo 1 >"$tracing/events/block/$event/enable"
    done
    echo 1 >"$tracing/tracing_on"
}

# state N: changes it; marks before and after.
state() {
    mark "asked $1"
    echo "$1" >"$sysfs/state" || fail "state $1 is refused"
    mark "state $1"
}

# finish: takes the devices down and saves the recording.
finish() {
    local logged
    sync
    for device in upper bow0; do
        dmsetup remove --retry "$device" || fail "cannot remove $device"
        [ "$device" != upper ] || upper_status=$(dmsetup status lower)
    done
    echo 0 >"$tracing/tracing_on"
    # The remove writes what nobody flushed; what the status says now is not all.
    dmsetup remove --retry lower || fail "cannot remove lower"
    grep -h '^overrun: [^0]' "$tracing"/per_cpu/*/stats && fail "the trace has lost events"
    ! dmesg | grep -E 'Ran out of space on the logdev|log-writes.*[Ee]rror' ||
        fail "dm-log-writes gave up"

    out=/tmp/recording
    rm -rf $out
    mkdir $out
    cp "$tracing/trace" $out/trace
    echo 0 >"$tracing/events/block/enable"
    cat >$out/meta <<END
name $name
sectors $sectors
late $late
bow $bow
fs ${fs:-none}
on_full ${on_full:-error}
END
    for log in lower-log upper-log; do
        dmsetup remove --retry $log || fail "cannot remove $log"
    done
    dmsetup remove --retry late || fail "cannot remove late"
    tar -C $out -c . | dd of=/dev/bow/meta bs=1M seek=$((index * room)) status=none || fail "cannot save"
    rm -rf $out
}
