# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# shellcheck disable=SC2034
#
# What the two halves of a power cut share. Both run in the guest, from the
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
