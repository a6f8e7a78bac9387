#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# F2FS is used again after a rollback and the power fails, three times: nothing is lost, nothing undone comes back.
# timeout: 480
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
need_fs f2fs
plan $results_rounds_again
load_bow

mkfs=(mkfs.f2fs -q -f)
fsck=(fsck.f2fs --dry-run)
# Otherwise it leaves discards, fstrim's too, for when it is idle.
mount_options=nodiscard
size=128
begin
rounds_again
