#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A device that ends in the middle of a block: blocks of 4096 all the same, and the last one rolls back.
# timeout: 240
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
. "$here/common/raw.sh"
plan $((2 * results_history + results_rounds + 15))
load_bow

# write_last: the last sector alone.
write_last() {
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=512 seek=$((size - 1)) count=1 oflag=direct status=none
}

# saved_tail: how the log has the last block, and how many bytes of what is saved beyond the device's
# end are not zero.
saved_tail() {
    bowctl log --json "$dev" | python3 -I -S -c '
import json, sys
path, sectors = sys.argv[1], int(sys.argv[2])
for block in json.load(sys.stdin)["blocks"]:
    for entry in block["entries"]:
        beyond = entry["source"] * 512 + entry["size"] - sectors * 512
        if beyond > 0:
            with open(path, "rb") as device:
                device.seek(entry["dest"] * 512 + entry["size"] - beyond)
                rest = device.read(beyond)
            print(entry["source"], entry["size"], beyond - rest.count(0))
' "$dev" "$size"
}

# All of it busy but for what is free, which does not reach into the last block.
free=(8000+24000)
for size in 32775 32769; do
    busy=(0+4500 "32000+$((size - 32000))" "$((size - 9))+9")
    dev=$(slice "data$size" "$size")
    history on_full:error
done

# The last sector alone, in both states, and discards of it.
size=32771
dev=$(slice tail "$size")
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
said=$(bowctl create bow0 "$dev") || bail "no device"
dmsetup mknodes
check "bowctl says what was chosen" grep -q "block size 4096; the last 1536 bytes" <<<"$said"
same "the default block_size" 4096 "$(bow_field bow0 block_size)"
exercise free /dev/mapper/bow0 "16384+$((size - 16384))" >/dev/null || bail "cannot discard"
same "state 0 counts sectors" $(((size - 16384) * 512)) "$(bow_free bow0)"
# What was discarded is nobody's any more; the end of it is not used for anything, though.
drop_caches
tail=$(digest "$dev" $((size - 3)) 3)
checkpoint bow0 || bail "no checkpoint"
same "state 1 counts whole free blocks" $(((16384 - 24) * 512)) "$(bow_free bow0)"
# What backups are read into is full of something else then.
exercise run /dev/mapper/bow0 --range 0+4096 --ops 100 >/dev/null || bail "bios in state 1"
check "a write of the last sector" write_last
left=$(bow_free bow0)
blkdiscard -qf -o $(((size - 3) * 512)) -l $((3 * 512)) /dev/mapper/bow0 || bail "cannot discard"
same "its block cannot be free" "$left" "$(bow_free bow0)"
check "zeroes to the end" blkdiscard -qfz -o $(((size - 100) * 512)) -l $((100 * 512)) /dev/mapper/bow0
check "remove" bow_remove bow0
same "one block is saved, with zeroes to its end" "32768 4096 0" "$(saved_tail)"
both_readers "the last sector" "$dev" as_saved
drop_caches
same "the last block is as it was" "$tail" "$(digest "$dev" $((size - 3)) 3)"

# Too small for a checkpoint.
small=$(slice small 31)
fails "a device of less than four blocks is refused" "four blocks" bow_create bow0 "$small"
check "but not with smaller ones" bow_create bow0 "$small" block_size:2048
bow_remove bow0

# A file system that uses the last sectors.
dev=$(slice fs 131071)
mkfs=(mkfs.ext4 -q -b 1024)
fsck=(fsck.ext4 -fn)
make_fs
rounds on_full:error
