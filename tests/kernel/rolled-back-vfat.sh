#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# vfat is used again after a rollback and the power fails, three times: nothing is lost, nothing undone comes back.
# timeout: 480
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
need_fs vfat
plan $results_rounds_again
load_bow

mkfs=(mkfs.vfat)
fsck=(fsck.vfat -n)
size=64
# An fsync of a file does not write the directory that has it.
made_durable() {
    sync -f "$mnt"
}
# It has no journal, and is marked as long as it is in use.
before_mount() {
    fsck.vfat -a "$dev" >"$work/fsck.out"
    [ $? -le 1 ] || sed 's/^/# /' "$work/fsck.out"
}
begin
rounds_again
