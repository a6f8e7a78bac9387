# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# What scenarios about data share, on top of lib.sh: status fields, the two
# ways back from a checkpoint, and raw devices under bow-exercise.

# lib.sh knows where the scenario is; everything else hangs off that.
common=$here/common
reader=$here/../reader/bow_reader.py

# No site packages: start-up is most of what these cost in an emulated guest.
tree() {
    python3 -I -S "$common/tree.py" "$@"
}

# tree_digest DIR: one hash of all names and contents.
tree_digest() {
    (cd "$1" && find . -name lost+found -prune -o -type f -print0 | sort -z |
        xargs -0 sha256sum | sha256sum)
}

# bow_field NAME FIELD: one field of the status line. Whoever needs several of
# one moment, or has the line from elsewhere, takes it apart itself:
# free-while-changing, table-status, event-order.
bow_field() {
    local line at
    line=$(dmsetup status "$1") || return
    case $2 in
    state) at=4 ;;
    block_size) at=5 ;;
    free) at=6 ;;
    writable) at=7 ;;
    backup) at=8 ;;
    sequence) at=9 ;;
    entries) at=10 ;;
    moved) at=11 ;;
    ranges) at=12 ;;
    error) at=13 ;;
    *) return 1 ;;
    esac
    awk -v at="$at" '$3 == "bow" { print $at }' <<<"$line"
}

# log_header DEVICE FIELD: of the log on a device, or below a live one.
log_header() {
    bowctl status --json "$1" |
        python3 -I -S -c 'import json, sys; print(json.load(sys.stdin)[0]["header"][sys.argv[1]])' "$2"
}

bow_message() {
    dmsetup message "$1" 0 "$2"
}

# nowait read|write SECTOR: one block of bow0 with RWF_NOWAIT, past the page cache.
nowait() {
    python3 -I -S - "$@" <<'END'
import mmap, os, sys
way, sector = sys.argv[1], int(sys.argv[2])
fd = os.open("/dev/mapper/bow0", os.O_RDWR | os.O_DIRECT)
with mmap.mmap(-1, 4096) as block:
    if way == "write":
        block[:] = b"n" * 4096
        done = os.pwritev(fd, [block], sector * 512, os.RWF_NOWAIT)
    else:
        done = os.preadv(fd, [block], sector * 512, os.RWF_NOWAIT)
sys.exit(done != 4096)
END
}

# fio_writes FIRST COUNT: becomes fio, which writes every other block of bow0 from that one on, all at a time. For the
# background.
fio_writes() {
    local number
    {
        printf '%s\n' "fio version 2 iolog" "/dev/mapper/bow0 add" "/dev/mapper/bow0 open"
        for ((number = 0; number < $2; number++)); do
            echo "/dev/mapper/bow0 write $((($1 + 2 * number) * 4096)) 4096"
        done
        echo "/dev/mapper/bow0 close"
    } >"$work/writes"
    exec fio --name=many --read_iolog="$work/writes" --replay_no_stall=1 --ioengine=libaio --direct=1 --iodepth="$2" \
        >"$work/fio" 2>&1
}

# put_table NAME TABLE: another table for a device, whoever uses it. What is in flight ends first.
put_table() {
    dmsetup load "$1" --table "$2" && dmsetup suspend --noflush --nolockfs "$1" && dmsetup resume "$1"
}

# events NAME: how many events the device has raised.
events() {
    dmsetup info -c --noheadings -o events "$1"
}

# image_of DEVICE FILE: a copy that takes no more memory than the data needs.
image_of() {
    dd if="$1" of="$2" bs=1M conv=sparse iflag=direct status=none || return
    truncate -s "$(blockdev --getsize64 "$1")" "$2"
}

# both_readers WHAT DEVICE CHECK...: rolls DEVICE back with bowctl and a copy of
# what was left on it with the independent reader; CHECK, given either, must
# pass, as must a re-run of bowctl's own check. Three results.
both_readers() {
    local what=$1 dev=$2 copy=$work/left-over
    shift 2
    image_of "$dev" "$copy" || bail "cannot copy $dev"
    check "$what: bowctl rolls back" bowctl restore "$dev"
    check "$what: every sector that was not free is as at the checkpoint" "$@" "$dev"
    if python3 -I -S "$reader" restore "$copy" >"$work/reader.out" 2>&1; then
        check "$what: the independent reader comes to the same" "$@" "$copy"
    else
        not_ok "$what: the independent reader comes to the same" "$(cat "$work/reader.out")"
    fi
    rm -f "$copy"
}

# no_log WHAT DEVICE: block 0 does not begin with the magic of a log.
no_log() {
    dd if="$2" of="$work/magic" bs=4 count=1 status=none iflag=fullblock
    # The first bytes may be zero: no text to compare.
    same "$1: no log on the device" "4 bytes, 0 logs" \
        "$(stat -c %s "$work/magic") bytes, $(grep -acE '^(BOW|WOB)' "$work/magic") logs"
}

#### Raw devices: the model file says what every sector must hold

model=$work/model
saved=$work/model-at-checkpoint

# bow-exercise with its device and the one model of the scenario.
# exercise COMMAND DEVICE [OPTION]...
exercise() {
    local command=$1 dev=$2
    shift 2
    bow-exercise "$command" "$dev" --model "$model" "$@"
}

# load_begin DEVICE [OPTION...]: exercises it in the background, until load_end or
# an error; the process is in load, what it says in $work/load.out.
load_begin() {
    local before
    before=$(io_below "$1")
    : >"$work/load.on"
    exercise run "$@" --while "$work/load.on" --ops 100000000 >"$work/load.out" 2>&1 &
    load=$!
    for _ in {1..600}; do
        [ "$(io_below "$1")" = "$before" ] || break
        sleep 0.1
    done
    sleep 1
}

# load_end: its exit status.
load_end() {
    rm -f "$work/load.on"
    wait "$load"
}

# load_said: how it ended, in a line.
load_said() {
    tail -n 1 "$work/load.out"
}

# load_ends NAME: ends it; all of it must have gone well.
load_ends() {
    load_end
    local status=$?
    same "$1 ($(load_said))" 0 "$status"
}

# as_saved DEVICE: it holds what the model said at the checkpoint.
as_saved() {
    bow-exercise verify "$1" --model "$saved"
}

# checkpoint NAME: state 1, with a copy of the model as it is then.
checkpoint() {
    cp "$model" "$saved" && bow_set "$1" 1
}

# sector0 DEVICE: where the log on DEVICE says that the relocated first block is.
sector0() {
    dd if="$1" bs=4096 count=1 iflag=direct status=none | od -An -tu8 -j20 -N8 | tr -d ' '
}

# runs_full COMMAND...: bow-exercise must stop because there is no space left.
runs_full() {
    "$@"
    [ $? = 4 ]
}

# delays READ WRITE: what $dev, of $sectors sectors, takes below /dev/mapper/test-delay from now on, in ms; what that
# holds goes on at once.
delays() {
    local table="0 $sectors delay $dev 0 $1 $dev 0 $2"
    if [ -b /dev/mapper/test-delay ]; then
        dmsetup suspend test-delay && dmsetup load test-delay --table "$table" && dmsetup resume test-delay
    else
        dmsetup create test-delay --table "$table" && dmsetup mknodes
    fi
}

# io_below DEVICE: all requests that it has seen, of whatever kind.
io_below() {
    local numbers
    numbers=$(lsblk -dno MAJ:MIN "$1" | tr -d ' ')
    # Reads, writes, discards and flushes.
    awk '{ print $1 + $5 + $12 + $16 }' "/sys/dev/block/$numbers/stat"
}

# device_numbers DEVICE: as a trace has them.
device_numbers() {
    lsblk -dno MAJ:MIN "$1" | tr : , | tr -d ' '
}

# A trace buffer of our own: whoever traces on this machine is not disturbed.
trace=/sys/kernel/tracing/instances/bow-test-$$

# trace_on DEVICE EVENT...: notes these events of that device from now on.
trace_on() {
    local numbers event
    numbers=$(device_numbers "$1")
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
    mkdir "$trace" || bail "there is no tracing on this machine"
    echo 8192 >"$trace/buffer_size_kb"
    shift
    for event; do
        echo "dev == $((${numbers%,*} << 20 | ${numbers#*,}))" >"$trace/events/block/$event/filter"
        echo 1 >"$trace/events/block/$event/enable"
    done
}

# trace_off: to $work/trace. Fails when something is missing from it.
trace_off() {
    local lost
    echo 0 >"$trace/events/enable"
    cat "$trace/trace" >"$work/trace"
    lost=$(cat "$trace"/per_cpu/*/stats | awk '/^(overrun|commit overrun|dropped events):/ { lost += $NF } END { print lost + 0 }')
    rmdir "$trace"
    [ "$lost" = 0 ]
}

# null_device NAME [KEY=VALUE]...: a null_blk disk that keeps its data; prints its path.
null_device() {
    local dir=/sys/kernel/config/nullb/bow-test-$1 pair
    modprobe null_blk nr_devices=0 2>/dev/null
    mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
    mkdir "$dir" || return
    shift
    for pair in memory_backed=1 "$@" power=1; do
        echo "${pair#*=}" >"$dir/${pair%%=*}" || return
    done
    echo "/dev/${dir##*/}"
}

# What stands on the null_blk disks must go before them.
null_undo() {
    local dir
    for dir in /sys/kernel/config/nullb/bow-test-*; do
        [ ! -d "$dir" ] || rmdir "$dir"
    done
}
