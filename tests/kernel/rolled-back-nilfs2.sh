#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# NILFS2 is used again after a rollback and the power fails, three times: nothing is lost, nothing undone comes back.
# timeout: 480
. "$(dirname "$0")/lib.sh"
. "$here/common/rolled-back.sh"
need_fs nilfs2
plan $results_rounds_again
load_bow

# It trims whole segments: small ones, so that there are some.
mkfs=(mkfs.nilfs2 -q -f -B 256)
mount_options=nogc
# It has a second superblock at the end of the device, in sight of everybody.
checkpoint_options=(--force)
size=128
# It has no checker; what it says while its files are read counts.
no_complaints() {
    ! klog | grep -aE 'NILFS.*(error|warning|corrupt|broken|bad )'
}
fsck=(no_complaints)
begin
rounds_again
