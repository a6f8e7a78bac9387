#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# btrfs is rolled back and kept, with both readers of the log.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs btrfs
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data $((128 << 11)))
mkfs=(mkfs.btrfs -q -f)
fsck=(btrfs check --readonly)
make_fs
roll_back
keep block_size:512
