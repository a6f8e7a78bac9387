#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# XFS is rolled back and kept, with both readers of the log.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs xfs
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data $((300 << 11)))
mkfs=(mkfs.xfs -q -f)
fsck=(xfs_repair -n)
make_fs
roll_back block_size:512
keep
