#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# ext4 with 4 KiB blocks is rolled back and kept, with both readers of the log.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data 65536)
mkfs=(mkfs.ext4 -q -b 4096)
fsck=(fsck.ext4 -fn)
make_fs
roll_back
keep block_size:512
