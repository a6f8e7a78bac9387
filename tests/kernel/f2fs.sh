#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# F2FS, where the kernel has it, is rolled back and kept.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
need_fs f2fs
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data $((128 << 11)))
mkfs=(mkfs.f2fs -q -f)
fsck=(fsck.f2fs --dry-run)
# Otherwise it leaves discards, fstrim's too, for when it is idle.
mount_options=nodiscard
make_fs
roll_back
keep block_size:512
