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

# until_busy: waits until bow has a write in flight.
until_busy() {
    local reads writes end=$((SECONDS + 20)) inflight
    inflight=/sys/block/$(dmsetup info -c --noheadings -o blkdevname lower)/inflight
    while [ "$SECONDS" -lt "$end" ]; do
        read -r reads writes <"$inflight"
        [ "$writes" = 0 ] || return 0
    done
    fail "nothing is written"
}

# poke START SECTORS: writes random data there, past the page cache.
poke() {
    dd if=/dev/urandom of="$device" bs=$(($2 * 512)) seek=$(($1 * 512)) count=1 iflag=fullblock \
        oflag=direct,seek_bytes conv=notrunc status=none
}

# fill [RANGE...]: stamps all of the device, then discards these ranges in odd pieces.
fill() {
    bow-exercise fill "$device" --model /tmp/model --seed 1 >/tmp/out || fail "fill: $(tail -n 3 /tmp/out)"
    bow-exercise free "$device" --model /tmp/model --shred 37 --seed 2 "$@" >/tmp/out ||
        fail "free: $(tail -n 3 /tmp/out)"
}

# load SEED ARGS...: random operations, none of which may fail but for want of
# space, which sets $filled.
filled=
load() {
    local seed=$1 status=0
    shift
    bow-exercise run "$device" --model /tmp/model --seed "$seed" "$@" >"/tmp/out.$seed" 2>&1 || status=$?
    case $status in
    0) ;;
    4) filled=1 && [ -n "${may_fill:-}" ] || fail "load $seed: no space: $(tail -n 3 "/tmp/out.$seed")" ;;
    *) fail "load $seed: $(tail -n 3 "/tmp/out.$seed")" ;;
    esac
}

# files STEPS SEED: changes files of the file system on the device.
files() {
    bow-crash files /mnt/files --state /tmp/files --count 30 --steps "$1" --seed "$2" ||
        fail "files: step $1"
}

# update_fs MKFS...: a file system is made, filled, trimmed, checkpointed,
# updated, and the update kept.
update_fs() {
    "$@" "$device" >/tmp/out 2>&1 || fail "$1: $(cat /tmp/out)"
    mount ${mount_options:+-o "$mount_options"} "$device" /mnt || fail "mount"
    mkdir /mnt/files || fail "mkdir"
    rm -f /tmp/files
    files 0 1
    fstrim /mnt || fail "fstrim"
    fsfreeze -f /mnt || fail "fsfreeze"
    state 1
    fsfreeze -u /mnt || fail "fsfreeze -u"
    files "$steps" 2
    state 2
    files 10 3
    umount /mnt || fail "umount"
}

# finish: takes the devices down and saves the recording.
finish() {
    local out=/tmp/recording level
    sync
    dmsetup remove --retry upper || fail "cannot remove upper"
    dmsetup remove --retry bow0 || fail "cannot remove bow0"
    # Writes what nobody has flushed to the log.
    dmsetup remove --retry lower || fail "cannot remove lower"
    echo 0 >"$tracing/tracing_on"
    grep -hE '^(overrun|commit overrun|dropped events): [^0]' "$tracing"/per_cpu/*/stats && fail "the trace has lost events"
    ! dmesg | grep -E 'Ran out of space on the logdev|log-writes.*[Ee]rror' ||
        fail "dm-log-writes gave up"

    rm -rf $out
    mkdir $out
    cp "$tracing/trace" $out/trace
    echo 0 >"$tracing/events/block/enable"
    {
        echo "name $name"
        echo "sectors $sectors"
        echo "late $late"
        echo "bow $bow"
        echo "fs ${fs:-none}"
        echo "at_least ${at_least:-}"
        for level in lower upper; do
            echo "$level $(log_sectors $level-log)"
        done
    } >$out/meta
    tar -C $out -c . | dd of=/dev/bow/meta bs=1M seek=$((index * room)) status=none || fail "cannot save"
    rm -rf $out
    dmsetup remove --retry lower-log || fail "cannot remove lower-log"
    dmsetup remove --retry upper-log || fail "cannot remove upper-log"
    dmsetup remove --retry late || fail "cannot remove late"
}

# log_sectors DEVICE: how much of it a log of dm-log-writes takes.
log_sectors() {
    python3 -I -S - "/dev/mapper/$1" <<'END'
import struct
import sys

DISCARD, MARK = 4, 8
with open(sys.argv[1], "rb") as log:
    _, _, entries, block = struct.unpack("<QQQI", log.read(28))
    at = block
    for _ in range(entries):
        log.seek(at)
        _, blocks, flags, _ = struct.unpack("<QQQQ", log.read(32))
        at += block * (1 if flags & (DISCARD | MARK) else 1 + blocks)
print(at // 512)
END
}
