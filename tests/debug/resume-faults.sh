#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each allocation of a resume fails once, and each read and write: refused, with the log as it was, or it goes on.
# timeout: 200
. "$(dirname "$0")/common/faults.sh"
need_faults
need_io_faults
plan 14
load_bow
faults_on

dev=$(slice data 16384)
other=$(slice other 2048)
exercise fill "$dev" --window 0+8000 >/dev/null || bail "cannot fill $dev"
before=$(head -c $((8000 * 512)) "$dev" | sha256sum)
sweep "$dev" resume
covered

# The same log over a device whose requests can be made to fail.
dmsetup create test-lower --table "0 16384 linear $dev 0" || bail "no lower device"
dmsetup mknodes
lower=/dev/mapper/test-lower
log=$(digest "$lower")
bowctl log --json "$dev" >"$work/log" || bail "there is no log"
places=$(python3 -I -S -c 'import json, sys
log = json.load(sys.stdin)
newest = log["blocks"][0]
print(*dict.fromkeys([block["sector"] for block in log["blocks"]] + [newest["free_map_sector"]]))' <"$work/log")
check "the log has several blocks" test "$(wc -w <<<"$places")" -ge 3

refused=0 harmed=0
for place in $places; do
    io_fault "$lower" READ "$place" 1
    bow_create bow0 "$lower" resume >"$work/create.out" 2>&1 && bow_remove bow0 || refused=$((refused + 1))
    io_faults_off
    [ "$(digest "$lower")" = "$log" ] || harmed=$((harmed + 1))
done
same "each block that cannot be read has the resume refused" "$(wc -w <<<"$places")" "$refused"
same "which writes nothing" 0 "$harmed"

io_fault "$lower" WRITE 0 1
check "where the log cannot be written the device comes up" bow_create bow0 "$lower" resume
same "and says so" failed "$(bow_field bow0 error)"
fails "a first write fails" "Input/output error" dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 seek=600 count=1 oflag=direct conv=notrunc status=none
io_faults_off
check "remove" bow_remove bow0
check "when it can, the checkpoint goes on" bow_create bow0 "$lower" resume
same "with nothing amiss" "1 ok" "$(bow_field bow0 state) $(bow_field bow0 error)"
check "remove again" bow_remove bow0
dmsetup remove test-lower
bowctl restore "$dev" >/dev/null
same "the restore gives the first state" "$before" "$(head -c $((8000 * 512)) "$dev" | sha256sum)"
