#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Two jobs on two CPUs: rewrites of writable blocks and reads take no lock of the target's; what first writes take.
# timeout: 60
. "$(dirname "$0")/common/faults.sh"
[ -e /proc/lock_stat ] || skip_all "the kernel counts no locks: this needs the debug kernel"
[ "$(nproc)" -ge 2 ] || skip_all "one CPU"
plan 6
load_bow

dev=$(slice data 262144)
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o $((64 << 20)) -l $((64 << 20)) /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"

# two_jobs RW FIRST-MIB: each on its own CPU and 2 MiB of its own, 512 requests of 4 KiB each.
two_jobs() {
    fio --direct=1 --bs=4k --ioengine=libaio --iodepth=4 --rw="$1" --size=2m --filename=/dev/mapper/bow0 \
        --output-format=terse --name=a --offset="$2m" --cpus_allowed=0 --name=b --offset="$(($2 + 2))m" --cpus_allowed=1 >"$work/fio.out" 2>&1
}
# counted COMMAND...: with the locks counted from zero.
counted() {
    echo 0 >/proc/sys/kernel/lock_stat
    echo 0 >/proc/lock_stat
    echo 1 >/proc/sys/kernel/lock_stat
    "$@"
    local status=$?
    echo 0 >/proc/sys/kernel/lock_stat
    cp /proc/lock_stat "$work/locks"
    return $status
}
# locks: NAME CONTENTIONS ACQUISITIONS of each lock of the target's that was taken.
locks() {
    sed 's/ *:  */ : /' "$work/locks" | awk '$2 == ":" && /^ *&?dm_bow/ && $10 > 0 { print $1, $4, $10 }'
}

check "first writes" counted two_jobs randwrite 4
first=$(locks)
# The lock under which they wait for the worker: if it is not seen, no lock would be.
check "first writes are seen to take a lock" grep -q dm_bow_deferred <<<"$first"
check "rewrites" counted two_jobs randwrite 4
same "rewrites of writable blocks take no lock of the target's" "" "$(locks)"
check "reads" counted two_jobs randread 16
same "reads outside the first block take no lock of the target's" "" "$(locks)"
while read -r name contentions acquisitions; do
    echo "# covered: 1024 first writes: $name taken $acquisitions times, contended $contentions times"
done <<<"$first"
echo "# covered: 1024 rewrites, 1024 reads: no lock of the target's"
