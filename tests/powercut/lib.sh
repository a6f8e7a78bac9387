# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# shellcheck disable=SC2034
#
# What the parts of a power cut, before it and after it, share. They run in the guest, from the
# payload; `make demo` shows them to a person, tests/run-powercut checks them.

set -uo pipefail
cd "$(dirname "$0")/../.." || exit
PATH=$PWD/bin:$PATH
disk=/dev/bow/powercut
part=$(readlink -f $disk)p1

# run COMMAND-LINE: what is shown is what runs. Through cat, since the guest's
# output is a terminal, and progress bars would fill the log.
run() {
    printf '\n# %s\n' "$*"
    eval "$*" 2>&1 | cat
}

note() {
    printf '\n--- %s\n' "$*"
}

give_up() {
    echo "not ok - $*"
    exit 1
}

# A digest of every sector of the device that its ext4 does not list as free.
digest_used() {
    dumpe2fs "$1" 2>/dev/null | python3 tests/kernel/used_blocks.py "$1"
}

load() {
    modprobe dm-mod
    local dep
    for dep in $(modinfo -F depends dm-bow.ko | tr , ' '); do modprobe "$dep"; done
    run insmod dm-bow.ko
}

# update_files VERSION: for ever.
update_files() {
    python3 -I -S tests/powercut/files.py "$1"
}

# not_mountable: only with block_size:4096 does the log hide ext4's superblock. With a smaller
# one this mount would succeed, and change the device: it replays the journal.
not_mountable() {
    note "After the power cut: a half-updated file system, which does not mount"
    run mount -o ro "$part" /mnt && give_up "it was mounted"
}
