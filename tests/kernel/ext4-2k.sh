#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# ext4 with 2 KiB blocks is rolled back and kept, with both readers of the log.
# timeout: 180
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan $((results_roll_back + results_keep))
load_bow

dev=$(slice data 65536)
mkfs=(mkfs.ext4 -q -b 2048)
fsck=(fsck.ext4 -fn)
make_fs
roll_back block_size:1024
keep
