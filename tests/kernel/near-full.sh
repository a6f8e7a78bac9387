#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# With next to no free space each discard makes room for one more first write, and the log is not flooded.
# timeout: 120
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 9
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
before=$(digest "$dev" 0 20000)
bow_create bow0 "$dev" on_full:error || bail "no device"
blkdiscard -qf -o $((20000 * 512)) -l $((512 * 512)) /dev/mapper/bow0
bow_set bow0 1 || bail "no checkpoint"

# first_write: of the next block that none has written.
block=10 written=()
first_write() {
    block=$((block + 7))
    dd if=/dev/zero of=/dev/mapper/bow0 bs=4096 count=1 seek=$block oflag=direct status=none 2>/dev/null &&
        written+=("$block")
}

klog_mark
start=$SECONDS
while first_write; do [ $block -lt 1000 ] || break; done
check "space runs out: after ${#written[@]} first writes" test ${#written[@]} -lt 100
same "status says so" full "$(bow_field bow0 error)"
events=$(events bow0)

good=0 refused=0
for turn in {0..29}; do
    blkdiscard -qf -o $((written[turn] * 4096)) -l 4096 /dev/mapper/bow0
    ! first_write || good=$((good + 1))
    first_write || refused=$((refused + 1))
done
# Some of the blocks take a full log block.
check "30 discards of a block make room for $good first writes" test $good -ge 25
check "and for no more: $refused were refused" test $refused -ge 25
check "each time that space ran out an event said so" test $(($(events bow0) - events)) -ge 25
warnings=$(klog | grep -c 'no free space is left')
check "the log says it now and then: $warnings times" test "$warnings" -ge 1 -a "$warnings" -le $((2 + (SECONDS - start) / 10))

bow_remove bow0
check "bowctl rolls back" bowctl restore "$dev"
same "every sector that was not free is back" "$before" "$(digest "$dev" 0 20000)"
no_log "after that" "$dev"
