#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each bad table line is refused with a message that names the fault, and changes nothing.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 41
load_bow
trap 'undo >/dev/null 2>&1; null_undo; finish' EXIT

dev=$(slice data 16384)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
before=$(digest "$dev")

# refused WHAT REGEX TABLE: by bow, not by dmsetup or device mapper before it.
refused() {
    fails "$1" "(device-mapper: table: .*bow|dm_bow: table): .*($2)" dmsetup create bow0 --table "$3"
}
# argument REGEX ARGUMENTS: on a table that is otherwise right.
argument() {
    refused "arguments '$2'" "$1" "0 16384 bow $dev $2"
}

refused "no device" "device|argument" "0 16384 bow"
refused "no such device" "cannot be opened|no such" "0 16384 bow /dev/no-such-device"
refused "a file that is no device" "cannot be opened|block device" "0 16384 bow /etc/passwd"
refused "a target that does not start at 0" "start|begin|alone" "0 8 linear $dev 0
8 16376 bow $dev"
refused "shorter than the device" "long|length|size|sectors" "0 16376 bow $dev"
refused "longer than the device" "long|length|size|sectors" "0 16392 bow $dev"

for bad in 0 1 256 513 1000 8192 -512 abc '' 0x200 4096k 18446744073709552128; do
    argument "block_size" "1 block_size:$bad"
done
argument "block_size" "1 block_size"
argument "unknown argument.*accepted" "1 colour:red"
argument "unknown argument.*accepted" "1 nonsense"
argument "on_full" "1 on_full:perhaps"
argument "on_full" "1 on_full:"
argument "block_size.*(twice|once|repeat|already|more than)|(twice|repeat|already).*block_size" \
    "2 block_size:512 block_size:512"
argument "on_full.*(twice|once|repeat|already|more than)|(twice|repeat|already).*on_full" \
    "2 on_full:error on_full:commit"
argument "argument" "0 block_size:512"
argument "argument" "1"
argument "argument" "2 block_size:512"
argument "argument" "x block_size:512"
argument "argument|twice|repeat|already" "3 block_size:512 on_full:error block_size:512"

# One sector is missing from the four blocks that a checkpoint takes.
small=$(slice small 31)
refused "a block_size that the device is too small for" "four blocks" "0 31 bow $small 1 block_size:4096"
large=$(slice large 16384 "$(test_disk 4096)")
refused "a block_size below the logical block" "block_size" "0 16384 bow $large 1 block_size:2048"

read_only=$(loop_device 8 -r)
refused "a read-only device" "read-only|read only|writ" "0 16384 bow $read_only"
if zoned=$(null_device zoned size=64 zoned=1 zone_size=4 zone_nr_conv=0 2>/dev/null); then
    refused "a zoned device" "zoned" "0 131072 bow $zoned"
else
    skip "a zoned device" "null_blk has no zones here"
fi
same "not a byte of the device has changed" "$before" "$(digest "$dev")"

bow_create bow0 "$dev" || bail "no device"
fails "a second bow device over the same one" "bow: .*(in use|already|another|busy)" \
    dmsetup create bow1 --table "0 16384 bow $dev"
bow_remove bow0

# Two that are created at the same moment.
created=''
for round in 1 2 3 4 5 6 7 8; do
    for name in bow1 bow2; do dmsetup create "$name" --table "0 16384 bow $dev" 2>/dev/null & done
    wait
    there=0
    for name in bow1 bow2; do ! bow_remove "$name" 2>/dev/null || there=$((there + 1)); done
    created="$created $there"
done
check "of two at the same moment no more than one is there (in $round rounds:$created)" \
    sh -c '! echo "$1" | grep -q 2 && echo "$1" | grep -q 1' sh "$created"

bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 4M -l 4M /dev/mapper/bow0
bow_set bow0 1 || bail "no checkpoint"
bow_remove bow0
before=$(digest "$dev")
refused "a device with an uncommitted log" "restore.*commit|commit.*restore" "0 16384 bow $dev"
same "keeps it" "$before" "$(digest "$dev")"
# The magic of a restore that was cut off.
printf WOB | dd of="$dev" conv=notrunc,fsync status=none
before=$(digest "$dev")
refused "a device whose restore was cut off" "restore" "0 16384 bow $dev"
same "keeps its log" "$before" "$(digest "$dev")"
