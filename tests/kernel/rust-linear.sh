#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The abstractions' second user, dm-linear in Rust, does what dm-linear does.
# timeout: 120
. "$(dirname "$0")/lib.sh"

example=
for file in "$here/../../dm-rust-linear.ko" "$here/../../build/module/dm-rust-linear.ko"; do
    [ -n "$example" ] || [ ! -f "$file" ] || example=$file
done
[ -n "$example" ] || skip_all "dm-rust-linear.ko is not built for this kernel"
plan 17

modprobe -q dm-mod
check "the module loads" insmod "$example"
dev=$(slice data 65536)
dd if=/dev/urandom of="$dev" bs=1M count=32 oflag=direct status=none || bail "cannot fill $dev"

# linear NAME TARGET: the first half at an offset, and the second at its end.
linear() {
    dmsetup create "$1" <<TABLE || return
0 32768 $2 $dev 100
32768 30000 $2 $dev 35000
TABLE
    dmsetup mknodes "$1"
}
check "two table lines" linear test-rust rust-linear
linear test-c linear || bail "cannot create linear"
same "both read the same" "$(digest /dev/mapper/test-c)" "$(digest /dev/mapper/test-rust)"
numbers=$(dmsetup table test-c | cut -d' ' -f1,2,4,5)
same "its table is that of linear" "$numbers" "$(dmsetup table test-rust | cut -d' ' -f1,2,4,5)"
same "its status is that of linear" "0 32768 " "$(dmsetup status test-rust | sed -n 's/rust-linear *//;1p')"
same "it is on the same device" "$(dmsetup deps -o devname test-c)" "$(dmsetup deps -o devname test-rust)"

dd if=/dev/urandom of="$work/data" bs=4096 count=64 status=none
check "it is written over the seam" dd if="$work/data" of=/dev/mapper/test-rust bs=4096 seek=4064 \
    oflag=direct conv=notrunc,fsync status=none
same "linear reads that" "$(digest "$work/data")" "$(digest /dev/mapper/test-c 32512 512)"
check "a discard goes down" blkdiscard -o $((16000 * 512)) -l $((64 * 512)) /dev/mapper/test-rust
check "zeroes go down" blkdiscard -z -o $((512 * 1000)) -l $((512 * 50)) /dev/mapper/test-rust
same "linear reads them" "$(head -c 25600 /dev/zero | sha256sum | cut -d' ' -f1)" "$(digest /dev/mapper/test-c 1000 50)"
check "fio finds what it wrote" fio --name=verify --filename=/dev/mapper/test-rust --rw=randwrite --bs=4k --size=8m \
    --direct=1 --ioengine=libaio --iodepth=32 --verify=crc32c --output=/dev/null
fails "a device that is not there is refused" "cannot be opened" \
    dmsetup create test-bad --table "0 8 rust-linear /dev/nonesuch 0"
fails "an offset that is no number is refused" "must be a number" \
    dmsetup create test-bad --table "0 8 rust-linear $dev x"

# Another table of the same device, live under load.
fio --name=load --filename=/dev/mapper/test-rust --rw=randrw --bs=4k --size=4m --direct=1 --time_based --runtime=60 \
    --output=/dev/null &
load=$!
reload() {
    dmsetup suspend test-rust && dmsetup load test-rust --table "0 62768 rust-linear $dev 100" && dmsetup resume test-rust
}
check "another table goes live" reload
kill "$load" 2>/dev/null
wait "$load"
check "it is removed" dmsetup remove --retry test-rust
dmsetup remove --retry test-c
check "the module unloads" rmmod dm_rust_linear
