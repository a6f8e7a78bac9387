#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# What keeps the packages from being removed: a checkpoint that is open, on a live device and on a plain one.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 8
load_bow

refusal=$here/../../open-checkpoint
[ -f "$refusal" ] || refusal=$here/../../scripts/debian/lib/open-checkpoint
dev=$(slice data 131072)
bow_create bow0 "$dev"
check "state 0: nothing is open" sh "$refusal" bowctl
blkdiscard -qf -o 4M -l 8M /dev/mapper/bow0
bow_set bow0 1
fails "state 1: the live device is named" "bowctl is not removed: a checkpoint is open on /dev/mapper/bow0" \
    sh "$refusal" bowctl
fails "with what keeps the new contents" "bowctl commit bow0" sh "$refusal" bowctl
bow_remove bow0
node=/dev/$(dmsetup info -c --noheadings -o blkdevname slice-data)
fails "the plain device is named" "bowctl is not removed: $node holds the log" sh "$refusal" bowctl
fails "with what goes back" "bowctl restore $node" sh "$refusal" bowctl
same "once" 1 "$(sh "$refusal" bowctl 2>&1 | grep -c 'is not removed')"
check "that goes back" bowctl restore "$node"
check "and nothing is open any more" sh "$refusal" bowctl
