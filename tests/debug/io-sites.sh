#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each kind of I/O below fails at chosen sectors: the right error, no harm done, rollback holds.
# timeout: 300
. "$(dirname "$0")/common/faults.sh"
need_io_faults
plan 66
load_bow

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
cp "$model" "$work/model-full"
free=32768+32768
ready() {
    bow_create bow0 "$dev" || bail "no device"
    exercise free /dev/mapper/bow0 "$free" >/dev/null || bail "cannot discard"
}
# Blocks are of 4 KiB: block B is at sector 8 B.
put() { # BLOCK [COUNT]
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=4096 seek="$1" count="${2:-1}" oflag=direct conv=notrunc status=none
}
get() { # DEVICE BLOCK
    dd if="$1" bs=4096 skip="$2" count=1 iflag=direct status=none | sha256sum
}
io_error="Input/output error"
# hit: at least one I/O fault came up since klog_mark.
hit() {
    total_faults=$((${total_faults:-0} + $(io_hits)))
    check "$1: the fault came up" test "$(io_hits)" -gt 0
}

# A write whose copy fails.
copy_fails() { # WHAT BLOCK OPERATION FIRST SECTORS LOST
    # LOST: sectors of free space that are not used again, since they cannot be written.
    local what=$1 block=$2 lost=$6 old free
    old=$(get "$dev" "$block")
    free=$(bow_field bow0 free)
    io_fault "$dev" "$3" "$4" "$5"
    fails "$what: the writer gets an error" "$io_error" put "$block"
    hit "$what"
    io_faults_off
    same "$what: the block has not changed" "$old" "$(get "$dev" "$block")"
    same "$what: free space is $lost sectors less" "$((free - lost))" "$(bow_field bow0 free)"
    same "$what: the device goes on" ok "$(bow_field bow0 error)"
    check "$what: without the fault the write succeeds" put "$block"
}

ready
checkpoint bow0 || bail "no checkpoint"
copy_fails "the original cannot be read" 100 READ 800 8 0
copy_fails "the backup cannot be written" 200 WRITE 32768 32768 8

# What is not needed for a write must not make it fail.
put 300
put 301
io_fault "$dev" READ $((312 * 8)) 8
good=0
for block in 302 303 304 305 306 307 308 309 310 311 313 314 315; do
    put "$block" 2>/dev/null && good=$((good + 1))
done
same "an unreadable neighbour makes no write fail" 13 "$good"
fails "but a write to it" "$io_error" put 312
io_faults_off

# Many backups are written by one bio. One of the places is bad: who needs that one fails.
write_errors() {
    fio --name=first --filename=/dev/mapper/bow0 --offset=12m --size=1600k --rw=randwrite --bs=4k --direct=1 \
        --ioengine=libaio --iodepth=16 --continue_on_error=write --output-format=json 2>/dev/null |
        sed -n '/^{/,$p' | python3 -I -S -c 'import json, sys; print(json.load(sys.stdin)["jobs"][0]["total_err"])'
}
# Places are taken one after the other.
next=$(bowctl log "$dev" | awk '$2 == "source" { print $5 + $7 / 512; exit }')
io_fault "$dev" WRITE $((next + 150 * 8)) 8
klog_mark
same "a bad place for a backup: one write of 400 fails" 1 "$(write_errors)"
hit "a bad place for a backup"
io_faults_off

# The data itself, once it has a backup.
io_fault "$dev" WRITE 3200 8
klog_mark
fails "the data cannot be written: the writer gets an error" "$io_error" put 400
hit "the data cannot be written"
io_faults_off
check "the data cannot be written: later it can" put 400

# The first block goes elsewhere.
place=$(sector0 "$dev")
io_fault "$dev" WRITE "$place" 8
fails "the relocated first block cannot be written: the writer gets an error" "$io_error" put 0
hit "the relocated first block cannot be written"
io_faults_off
io_fault "$dev" READ "$place" 8
klog_mark
fails "the relocated first block cannot be read: the reader gets an error" "$io_error" \
    dd if=/dev/mapper/bow0 of=/dev/null bs=4096 count=1 iflag=direct status=none
hit "the relocated first block cannot be read"
fails "the relocated first block cannot be read: the checkpoint cannot be committed" "$io_error" bow_set bow0 2
same "the relocated first block cannot be read: the state is still 1" 1 "$(bow_state bow0)"
# The file system takes its place, so it has to move, and cannot.
fails "the relocated first block cannot be moved: the writer gets an error" "$io_error" put $((place / 8))
io_faults_off
check "the relocated first block can be moved" put $((place / 8))
check "the first block can be written" put 0

# The log.
events=$(events bow0)
old=$(get "$dev" 500)
io_fault "$dev" WRITE 0 8
fails "the log cannot be written: the writer gets an error" "$io_error" put 500
hit "the log cannot be written"
same "the log cannot be written: the block has not changed" "$old" "$(get "$dev" 500)"
same "the log cannot be written: status says so" failed "$(bow_field bow0 error)"
check "the log cannot be written: so does an event" test "$(events bow0)" -gt "$events"
check "the log cannot be written: a changed block can be written" put 100
fails "the log cannot be written: the checkpoint cannot be committed" "$io_error" bow_set bow0 2
same "the log cannot be written: the state is still 1" 1 "$(bow_state bow0)"
io_faults_off
fails "afterwards: first writes still fail" "$io_error" put 501
check "afterwards: a changed block can be written" put 200
check "afterwards: reads succeed" exercise run /dev/mapper/bow0 --ops 20 --mix read=1 --no-verify --range 8000+8000
bow_remove bow0
both_readers "after all of this" "$dev" as_saved

# A full log block, whose places are taken from the end of free space. One that is bad costs the place.
cp "$saved" "$model"
ready
checkpoint bow0 || bail "no checkpoint"
io_fault "$dev" WRITE 65528 8
klog_mark
same "a bad place for a full log block: no write of 400 fails" 0 "$(write_errors)"
hit "a bad place for a full log block"
same "a bad place for a full log block: the device goes on" ok "$(bow_field bow0 error)"
check "a bad place for a full log block: one was full" test "$(bowctl log "$dev" | grep -c '^log block')" -gt 1
check "a bad place for a full log block: none is there" sh -c "! bowctl log $dev | grep -q 'at sector 65528:'"
io_faults_off
bow_remove bow0
both_readers "a bad place for a full log block" "$dev" as_saved

# Changes of state.
cp "$saved" "$model"
ready
free_before=$(bow_free bow0)
for fault in "READ 0 8" "WRITE 32768 32768"; do
    # shellcheck disable=SC2086
    io_fault "$dev" $fault
    fails "checkpoint, with a fault in $fault: refused" "$io_error" bow_set bow0 1
    total_faults=$((total_faults + $(io_hits)))
    io_faults_off
    same "checkpoint, with a fault in $fault: state and free space are as before" "0 $free_before" \
        "$(bow_state bow0) $(bow_free bow0)"
done
# Nobody knows what such a write has left, nor the one that is to take it back.
io_fault "$dev" WRITE 0 8
fails "checkpoint, with a fault in the first block: refused" "$io_error" bow_set bow0 1
total_faults=$((total_faults + $(io_hits)))
io_faults_off
same "checkpoint, with a fault in the first block: it may be there" "1 failed" "$(bow_state bow0) $(bow_field bow0 error)"
check "a commit ends that" bow_set bow0 2
check "and the device is as before" bow_set bow0 0
check "nothing has changed" exercise verify "$dev"
check "then a checkpoint is possible" checkpoint bow0
check "and a commit" bow_set bow0 2
bow_remove bow0
check "the bare device holds what was written" exercise verify "$dev"

# A commit whose first write fails, and the one after it does not.
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
ready
is_covered=no
for _ in {1..60}; do
    bow_set bow0 1 || bail "no checkpoint"
    # Every other write of the whole first block.
    io_fault "$dev" WRITE 1 7 IOERR 2
    bow_set bow0 2 2>/dev/null
    io_faults_off
    case "$(bow_state bow0) $(bow_field bow0 error)" in
    "1 ok") is_covered=yes && break ;;
    1*) bow_set bow0 2 || bail "no commit" ;;
    esac
    bow_set bow0 0 || bail "not state 0"
done
same "a commit's first write fails, and the cover is written again" yes "$is_covered"
same "nothing is behind the log" 0 \
    "$(dd if="$dev" bs=512 skip=1 count=7 iflag=direct status=none | tr -d '\0' | wc -c)"
check "the commit is done later" bow_set bow0 2
check "the contents are the same" exercise verify /dev/mapper/bow0
echo "# covered: $total_faults I/O faults: read of the original, write of a backup, data, log, full log block, relocated first block (read, write, move), checkpoint, commit"
