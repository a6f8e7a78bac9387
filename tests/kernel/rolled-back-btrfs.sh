#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# btrfs is used again after a rollback and the power fails, three times: nothing is lost, nothing undone comes back.
# timeout: 480
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
need_fs btrfs
plan $results_rounds_again
load_bow

mkfs=(mkfs.btrfs -q -f)
fsck=(btrfs check --readonly)
size=128
begin
rounds_again
