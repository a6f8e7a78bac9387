#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# An ioctl of the underlying device passes in state 2, and in the others only with the privilege for raw I/O.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
command -v setpriv >/dev/null || skip_all "there is no setpriv"
need_module loop
plan 6
load_bow

truncate -s 16M "$work/image"
dev=$(losetup --show -f "$work/image") || bail "no loop device"
trap 'dmsetup remove --retry bow0 2>/dev/null; losetup -d "$dev"; finish' EXIT
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 8M -l 4M /dev/mapper/bow0 || bail "cannot discard"

# asks OPTION...: LOOP_GET_STATUS64, by a process that setpriv starts.
asks() {
    setpriv "$@" python3 -I -S -c 'import fcntl, os
fcntl.ioctl(os.open("/dev/mapper/bow0", os.O_RDONLY), 0x4c05, bytes(232))'
}
without=(--bounding-set=-sys_rawio --inh-caps=-sys_rawio)

for state in 0 1; do
    [ "$state" = 0 ] || bow_set bow0 1 || bail "no checkpoint"
    check "state $state: with the privilege" asks --no-new-privs
    fails "state $state: without it" "Inappropriate ioctl" asks "${without[@]}"
done
bow_set bow0 2 || bail "no commit"
check "state 2: with the privilege" asks --no-new-privs
check "state 2: without it" asks "${without[@]}"
