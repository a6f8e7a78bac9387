#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Layers that must not be on bow are refused by create, and by checkpoint on a device of dmsetup's.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 21
load_bow
dev=$(slice data 131073)

# refused NAME REGEX OFFSET BYTES (as printf has them). 3 results.
refused() {
    blkdiscard -qfz "$dev"
    # shellcheck disable=SC2059
    printf "$4" | dd of="$dev" bs=1 seek="$3" conv=notrunc status=none
    fails "$1: create" "there is $2.*byte $3.*Nothing was changed" bowctl create bow0 "$dev"
    bow_create bow0 "$dev" || bail "no device"
    blkdiscard -o $((32 << 20)) -l $((16 << 20)) /dev/mapper/bow0
    fails "$1: checkpoint" "there is $2.*byte $3.*Nothing was changed" bowctl checkpoint bow0
    same "$1: no checkpoint was taken" 0 "$(bow_state bow0)"
    bow_remove bow0
}
refused "LUKS2" "a LUKS2 header" 0 'LUKS\xba\xbe\0\2'
refused "LUKS2's second header" "a LUKS2 header" 16384 'SKUL\xba\xbe\0\2'
refused "md 1.2" "a superblock of md" 4096 '\xfc\x4e\x2b\xa9\1\0\0\0'
refused "LVM" "a label of LVM" 512 'LABELONE'
refused "NILFS2" "a superblock of NILFS2" $((131073 * 512 / 4096 * 4096 - 4096)) '\2\0\0\0\0\0\x34\x34'
refused "ZFS" "a label of ZFS" $((128 << 10)) '\x0c\xb1\xba\0\0\0\0\0'

blkdiscard -qfz "$dev" && mkswap "$dev" >"$work/mkswap" || bail "no swap"
check "swap is let through" bowctl create bow0 "$dev"
blkdiscard -o $((32 << 20)) -l $((16 << 20)) /dev/mapper/bow0
check "and its checkpoint" bowctl checkpoint bow0
bow_remove bow0
same "which is on the device" 1 "$(bowctl status "$dev" | grep -c 'an open checkpoint')"
