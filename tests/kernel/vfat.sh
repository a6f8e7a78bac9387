#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vfat is rolled back and kept, with both readers of the log.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs vfat
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data $((64 << 11)))
mkfs=(mkfs.vfat)
fsck=(fsck.vfat -n)
make_fs
roll_back
keep block_size:2048
