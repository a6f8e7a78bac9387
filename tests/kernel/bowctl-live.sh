#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl on a live device: create, checkpoint, status, commit, and what it refuses.
. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 12
load_bow

dev=$(slice data 131072)
mkfs=(mkfs.ext4 -q)
fsck=(fsck.ext4 -fn)
make_fs
what=bowctl
check "create" bowctl create bow0 "$dev" || bail "no device"
dmsetup mknodes
same "the device is a bow device in state 0" 0 "$(bow_state bow0)"
mount_fs /dev/mapper/bow0 || bail "cannot mount"
old=$(tree_digest "$mnt")
check "checkpoint of a mounted file system: trim, freeze, state 1, thaw" bowctl checkpoint bow0
same "state 1" 1 "$(bow_state bow0)"
check "status --json is JSON and knows the state" sh -c \
    'bowctl status --json bow0 | python3 -c "import json,sys; assert json.load(sys.stdin)[0][\"state\"] == 1"'
update 5
fails "restore refuses a device in use" "in use|busy|mounted|held" bowctl restore "$dev"
check "commit" bowctl commit bow0
same "state 2" 2 "$(bow_state bow0)"
umount "$mnt"
bow_remove bow0
holds new "$new" "$dev"
same "and that is not the old content" different "$([ "$old" = "$new" ] || echo different)"
