#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# While all batches are busy, discards, writes to free space and I/O of the first block do not wait for them.
# timeout: 120
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-delay
plan 14
load_bow

# An I/O of the slow device in ms, and what an emulated CPU may add to it.
slow=6000 more=2000
sectors=131072 old=69632
dev=$(slice data $sectors)
dd if=/dev/urandom of="$dev" bs=1M count=$((sectors / 2048)) oflag=direct status=none

# delays READ WRITE: what the underlying device takes from now on, in ms; what it holds goes on at once.
delays() {
    local table="0 $sectors delay $dev 0 $1 $dev 0 $2"
    if [ -b /dev/mapper/test-delay ]; then
        dmsetup suspend test-delay && dmsetup load test-delay --table "$table" && dmsetup resume test-delay
    else
        dmsetup create test-delay --table "$table" && dmsetup mknodes
    fi
}

as_before() {
    [ "$(digest "$1" 0 $old)" = "$before" ]
}

latency() { # WAY BYTE
    python3 -I -S "$common/latency.py" /dev/mapper/bow0 "$1" "$2"
}

# busy FIRST: four first writes, from that MiB on, one in each MiB: none profits from another's backup.
busy() {
    local n
    writes=()
    for ((n = $1; n < $1 + 4; n++)); do
        dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 count=1 seek=$((n * 256)) oflag=direct status=none &
        writes+=($!)
    done
    sleep 1
}

under_way() {
    local job n=0
    for job in "${writes[@]}"; do ! kill -0 "$job" 2>/dev/null || n=$((n + 1)); done
    [ $n -gt 0 ]
}

# answered WHAT DISCARD WRITE READ: each of these within so many ms, all at once.
answered() {
    local what=$1 jobs=()
    latency discard $((512 << 10)) >"$work/discard" 2>&1 &
    jobs+=($!)
    # In the middle of what is free: backups are at its ends.
    latency write $((48 << 20)) >"$work/write" 2>&1 &
    jobs+=($!)
    latency read 0 >"$work/read" 2>&1 &
    jobs+=($!)
    wait "${jobs[0]}"
    check "$what: the first writes wait" under_way
    wait "${jobs[@]}"
    check "$what: a discard is answered within $2 ms: $(cat "$work/discard")" test "$(cat "$work/discard")" -lt "$2"
    check "$what: a write to free space within $3 ms: $(cat "$work/write")" test "$(cat "$work/write")" -lt "$3"
    check "$what: a read of the first block within $4 ms: $(cat "$work/read")" test "$(cat "$work/read")" -lt "$4"
}

first_writes_end() {
    local job bad=0
    for job in "${writes[@]}"; do wait "$job" || bad=1; done
    same "$1: the first writes end" 0 $bad
}

before=$(digest "$dev" 0 $old)
delays 0 0 || bail "no dm-delay"
bow_create bow0 /dev/mapper/test-delay || bail "no device"
blkdiscard -qf -o $((old * 512)) /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"

delays $slow 0
busy 1
answered "old contents are read" $more $more $((slow + more))
delays 0 0
first_writes_end "old contents are read"

delays 0 $slow
busy 5
answered "backups are written" $more $((slow + more)) $more
delays 0 0
first_writes_end "backups are written"

check "remove" bow_remove bow0
dmsetup remove --retry test-delay
both_readers "afterwards" "$dev" as_before
