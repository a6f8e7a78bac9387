#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# I/O below fails at random, stalls, is delayed, and is gone for a while: no hang, and rollback holds.
# timeout: 400
. "$(dirname "$0")/common/faults.sh"
rounds=${ROUNDS:-6}
need_io_faults
plan $((5 * rounds + 17))
load_bow

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
cp "$model" "$work/model-full"
ready() {
    bow_create bow0 "$dev" "$@" || bail "no device"
    exercise free /dev/mapper/bow0 --shred 300 30000+35536 >/dev/null || bail "cannot discard"
}
# The run that goes on whatever fails; it ends with 0 unless data is wrong.
run_on() {
    exercise run /dev/mapper/bow0 --keep-going --no-verify --range 0+12000 --range 29000+3000 "$@" >"$work/run.out" 2>&1
}
# Where the relocated first block is may be unknown after a log write has failed, and
# its reads then fail: no wrong content is all that can be asked for.
not_wrong() {
    exercise verify /dev/mapper/bow0
    case $? in
    0) ;;
    3) [ "$(bow_field bow0 error)" = failed ] ;;
    *) false ;;
    esac
}
# rolled_back WHAT: 4 results.
rolled_back() {
    check "$1: what is known is there" not_wrong
    check "$1: remove" bow_remove bow0
    check "$1: bowctl rolls back" bowctl restore "$dev"
    check "$1: every sector that was not free is as at the checkpoint" as_saved "$dev"
    cp "$saved" "$model"
}

failed=0
for round in $(seq "$rounds"); do
    # With the first block out of it, so that the log does not fail at once; then with it.
    start=8
    [ $((round % 3)) != 0 ] || start=0
    size=()
    [ $((round % 2)) != 0 ] || size=(block_size:512)
    ready ${size[@]+"${size[@]}"}
    checkpoint bow0 || bail "no checkpoint"
    chance=$((5 * round))
    klog_mark
    for operation in READ WRITE WRITE_ZEROES; do
        io_fault "$dev" "$operation" "$start" $((65536 - start)) IOERR "$chance"
    done
    run_on --ops 300 --seed "$round"
    status=$?
    same "round $round, one in $chance fails: no wrong data ($(tail -n 1 "$work/run.out"))" 0 "$status"
    io_faults_off
    # The kernel tells no more than some of them.
    failed=$((failed + $(io_hits)))
    rolled_back "round $round"
done

# Delays: reads, writes and flushes each take their own time.
modprobe -q dm-delay
exercise verify "$dev" >/dev/null || bail "the device is not what it was"
dmsetup create test-delay --table "0 65536 delay $dev 0 3 $dev 0 15 $dev 0 40" || bail "no dm-delay"
dmsetup mknodes
below=$dev
dev=/dev/mapper/test-delay
ready
load_begin /dev/mapper/bow0 --range 0+8000
check "delays: checkpoint under load" bow_set bow0 1
sleep 2
check "delays: commit under load" bow_set bow0 2
sleep 1
load_ends "delays: the load has seen nothing of it"
bow_remove bow0
exercise verify "$dev" >"$work/verify.out"
same "delays: the bare device holds what was written" 0 $?
ready
checkpoint bow0 || bail "no checkpoint"
run_on --ops 100 --seed 77
rolled_back "delays"
dmsetup remove --retry test-delay
dev=$below

# Everything below stops for a while, and goes on.
ready
checkpoint bow0 || bail "no checkpoint"
load_begin /dev/mapper/bow0 --range 0+8000
dmsetup suspend --noflush "${dev##*/}"
sleep 4
dmsetup resume "${dev##*/}"
sleep 1
load_ends "the underlying device stops for 4 s: the load has seen nothing of it"

# It is gone, and comes back.
line=$(dmsetup table "${dev##*/}")
load_begin /dev/mapper/bow0 --keep-going --no-verify --range 0+12000
dmsetup load "${dev##*/}" --table "0 65536 error" && dmsetup resume "${dev##*/}" || bail "cannot take it away"
sleep 2
check "the underlying device is gone: status can be asked" dmsetup status bow0
check "the underlying device is gone: state 2 is refused" sh -c "! echo 2 >'$(bow_sysfs bow0)/state' 2>/dev/null"
load_ends "the underlying device is gone: no wrong data"
dmsetup load "${dev##*/}" --table "$line" && dmsetup resume "${dev##*/}" || bail "cannot bring it back"
rolled_back "the underlying device was gone"
check "errors came up: $failed" test "$failed" -gt 0
echo "# covered: at least $failed I/O errors at random in $rounds rounds, delays, a stall, a device gone and back"
