#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Memory runs short: swap on a bow device in state 1, and writeback in a small cgroup, do not deadlock.
# timeout: 300
. "$(dirname "$0")/common/faults.sh"
[ -e /proc/swaps ] || skip_all "the kernel has no swap"
plan 15
load_bow

# hog MIB: writes that much memory and reads it back.
hog='import sys
size, page = int(sys.argv[1]) << 20, 4096
data = bytearray(size)
for i in range(0, size, page):
    data[i:i + 8] = (i * 2654435761 % (1 << 64)).to_bytes(8, "little")
for round in range(2):
    bad = [i for i in range(0, size, page) if data[i:i + 8] != (i * 2654435761 % (1 << 64)).to_bytes(8, "little")]
    if bad:
        sys.exit(f"{len(bad)} pages are wrong")'

cgroup=/sys/fs/cgroup
mountpoint -q "$cgroup" || mount -t cgroup2 none "$cgroup"
grep -qw memory "$cgroup/cgroup.controllers" || skip_all "the kernel has no memory cgroups"
echo +memory >"$cgroup/cgroup.subtree_control"
echo +io >"$cgroup/cgroup.subtree_control" 2>/dev/null
small=$cgroup/bow-test
mkdir "$small"
trap 'echo $$ >$cgroup/cgroup.procs; swapoff /dev/mapper/bow0 2>/dev/null; rmdir $small; debug_finish' EXIT

# in_small COMMAND...: with at most $limit of memory, and slowed down from $slow on.
in_small() {
    echo "$limit" >"$small/memory.max"
    echo "$slow" >"$small/memory.high"
    (
        echo "$BASHPID" >"$small/cgroup.procs"
        exec "$@"
    )
}

# Swap. All of the device is first written in state 1, but what is free.
dev=$(slice swap $((192 << 11)))
exercise fill "$dev" --window 0+8 >/dev/null || bail "cannot fill $dev"
mkswap "$dev" >/dev/null || bail "mkswap"
head=$(digest "$dev" 0 8)
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o $((96 << 20)) -l $((96 << 20)) /dev/mapper/bow0 || bail "cannot discard"
check "swap: checkpoint" bow_set bow0 1
check "swap: on" swapon /dev/mapper/bow0
limit=48M slow=max
check "swap: 96 MiB in 48 MiB of memory" in_small python3 -I -S -c "$hog" 96
check "swap: pages went out" test "$(awk '$1 == "pswpout" { print $2 }' /proc/vmstat)" -gt 4000
check "swap: the worker made backups" test "$(bow_field bow0 entries)" -gt 0
check "swap: off" swapoff /dev/mapper/bow0
check "swap: remove" bow_remove bow0
check "swap: bowctl rolls back" bowctl restore "$dev"
same "swap: the header is as it was" "$head" "$(digest "$dev" 0 8)"

# Writeback.
dev=$(slice fs $((192 << 11)))
mkfs.ext4 -q "$dev"
mount "$dev" "$mnt"
for n in 1 2 3 4; do dd if=/dev/urandom of="$mnt/old$n" bs=1M count=10 status=none; done
old=$(cd "$mnt" && sha256sum old*)
umount "$mnt"
bow_create bow0 "$dev" || bail "no device"
mount /dev/mapper/bow0 "$mnt" || bail "no file system"
fstrim "$mnt"
check "writeback: checkpoint" bow_set bow0 1
limit=40M slow=20M
write_files() {
    for n in 1 2 3 4; do
        dd if=/dev/zero of="$mnt/old$n" bs=64k count=160 conv=notrunc status=none || return
    done
    dd if=/dev/zero of="$mnt/new" bs=64k count=480 status=none || return
    sync -f "$mnt"
}
export -f write_files
export mnt
check "writeback: 70 MiB in 20 MiB of memory" in_small bash -c write_files
umount "$mnt"
check "writeback: remove" bow_remove bow0
check "writeback: bowctl rolls back" bowctl restore "$dev"
check "writeback: the file system is clean" fsck.ext4 -fn "$dev"
mount -o ro "$dev" "$mnt"
same "writeback: the files are the old ones" "$old" "$(cd "$mnt" && sha256sum old*)"
umount "$mnt"
echo "# covered: $(awk '$1 == "pswpout" { print $2 }' /proc/vmstat) pages swapped out, 70 MiB of writeback in 20 MiB"
