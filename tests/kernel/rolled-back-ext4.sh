#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# ext4 is used again after a rollback and the power fails, three times: nothing is lost, nothing undone comes back.
# timeout: 480
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
plan $results_rounds_again
load_bow

mkfs=(mkfs.ext4 -q -E lazy_itable_init=0)
fsck=(fsck.ext4 -fn)
size=64
begin
rounds_again
