#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A 16 MB ext4 on a loop device is rolled back and kept.
# timeout: 120
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan $results_rounds
load_bow

dev=$(loop_device 16)
mkfs=(mkfs.ext4 -q)
fsck=(fsck.ext4 -fn)
files=40
make_fs
rounds on_full:commit
