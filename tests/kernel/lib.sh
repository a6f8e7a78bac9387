# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# shellcheck disable=SC2001,SC2034,SC2119,SC2120
#
# What the kernel selftests share. A scenario is tests/kernel/NAME.sh:
#
#     #!/bin/bash
#     # SPDX-License-Identifier: GPL-2.0
#     # What it shows, in one line.
#     # timeout: 60                 (seconds; 120 when left out)
#     . "$(dirname "$0")/lib.sh"
#     plan 2
#     load_bow
#     dev=$(slice data 131072)
#     check "a table is accepted" bow_create bow0 "$dev"
#     fails "state 2 is refused in state 0" "Invalid argument" bow_set bow0 2
#
# It runs in the guest, where `make test-kernel T=NAME` puts it, or by hand on
# a real machine as root: with DISK=/dev/sdX, whose contents are lost, or
# without, on loop devices. MODULE=FILE.ko and BOWCTL=FILE say what is tested
# where it is not installed. Everything a scenario made is undone when it ends.

set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MODULE=${MODULE:-}
for file in "$here/../../dm-bow.ko" "$here/../../build/module/dm-bow.ko"; do
    [ -n "$MODULE" ] || [ ! -f "$file" ] || MODULE=$file
done
PATH=$here/../../bin:$here/../../build/bin:$PATH
work=$(mktemp -d /tmp/bow-test.XXXXXX)

. "$here/common/ktap.sh"

#### The kernel's log

# klog_mark, klog: the lines since the mark.
klog_mark() {
    echo "bow-test: mark $$.$((++mark))" >/dev/kmsg
}
mark=0
klog() {
    dmesg | awk -v m="bow-test: mark $$.$mark" 'index($0, m) { on = 1; next } on'
}

#### The module

# insert FILE: loads it, after what it depends on.
insert() {
    local dep
    for dep in $(modinfo -F depends "$1" | tr , ' '); do
        modprobe "$dep"
    done
    insmod "$1"
}

# load_bow: the target is there afterwards, loaded or built in.
load_bow() {
    modprobe -q dm-mod
    if ! dmsetup targets | grep -q '^bow '; then
        if [ -n "$MODULE" ]; then
            insert "$MODULE" || bail "cannot load $MODULE"
        else
            modprobe dm-bow || bail "no dm-bow module: set MODULE=FILE.ko"
        fi
        loaded=1
    fi
}
loaded=0

unload_bow() {
    rmmod dm_bow
}

# need_module NAME...: loads them, or skips the scenario.
need_module() {
    local name
    for name; do
        modprobe -q "$name" || skip_all "the kernel has no $name"
    done
}

# need_fs NAME: as need_module, for a file system that may be built in, or was built for this kernel by
# scripts/guest/fs-modules.
need_fs() {
    local file=$here/../../$1.ko
    grep -qw "$1" /proc/filesystems || modprobe -q "$1" || { [ -f "$file" ] && insert "$file"; } ||
        skip_all "the kernel has no $1"
    # Its blocks are as large as a page, and mkfs.f2fs makes none of 64 KiB.
    [ "$1" != f2fs ] || [ "$(getconf PAGESIZE)" = 4096 ] || skip_all "F2FS wants pages of 4 KiB"
}

#### Devices

# test_disk [512|4096]: the disk that may be overwritten. In the guest there
# is one with 512-byte and one with 4096-byte blocks.
test_disk() {
    local block=${1:-512} file
    case $block in
    512) if [ -n "${DISK:-}" ]; then echo "$DISK"; return; fi ;;
    4096) if [ -n "${DISK4K:-}" ]; then echo "$DISK4K"; return; fi ;;
    esac
    if [ -b "/dev/bow/disk$block" ]; then
        readlink -f "/dev/bow/disk$block"
        return
    fi
    # By hand and without a disk: one sparse file as large as the guest's.
    file=/var/tmp/bow-test-disk.$$.$block
    if ! losetup -nO NAME -j "$file" 2>/dev/null | grep .; then
        modprobe -q loop
        truncate -s 1G "$file"
        losetup --show -f --sector-size "$block" "$file"
    fi
}

sectors_of() {
    blockdev --getsz "$1"
}

# partitions DISK SECTORS...: makes partitions of these sizes the only ones of the
# disk, zeroes them, and prints their paths, a line for each.
partitions() {
    local disk=$1 part parts=() size length start='start=2048, '
    shift
    for size; do
        part=$((${#parts[@]} + 1))
        case $disk in
        *[0-9]) parts+=("${disk}p$part") ;;
        *) parts+=("$disk$part") ;;
        esac
    done
    {
        # wipefs tells of a partition table that it has wiped, however quiet.
        wipefs -qa "$disk"
        {
            echo 'label: dos'
            for length; do
                echo "${start}size=$length, type=83"
                start=
            done
        } | sfdisk -q --wipe always "$disk" || bail "cannot partition $disk"
        blockdev --rereadpt "$disk" 2>/dev/null
        for part in "${parts[@]}"; do
            for _ in 1 2 3 4 5 6 7 8 9 10; do
                [ ! -b "$part" ] || break
                sleep 0.2
            done
            blkdiscard -qfz "$part"
        done
    } >&2
    echo "$disk" >>"$work/partitioned"
    printf '%s\n' "${parts[@]}"
}

# partition SECTORS [DISK]: a disk with one.
partition() {
    partitions "${2:-$(test_disk)}" "$1"
}

# slice NAME SECTORS [DISK [START]]: a device of exactly that size (dm-linear
# on the test disk, one slice after the other), zeroed; prints its path. Several
# may exist at once.
slice() {
    local disk=${3:-$(test_disk)} start=${4:-} next=$work/next
    if [ -z "$start" ]; then
        start=2048
        [ ! -s "$next.${disk##*/}" ] || start=$(cat "$next.${disk##*/}")
        echo "$((start + ($2 + 2047) / 2048 * 2048))" >"$next.${disk##*/}"
    fi
    dmsetup create "slice-$1" --table "0 $2 linear $disk $start" >&2 || return
    dmsetup mknodes >&2
    blkdiscard -qfz "/dev/mapper/slice-$1"
    echo "/dev/mapper/slice-$1"
}

# loop_device MIB [losetup OPTION]...: a loop device on a file of that size.
loop_device() {
    local file
    modprobe -q loop
    file=$(mktemp "$work/loop.XXXXXX")
    truncate -s "$1M" "$file"
    shift
    losetup --show -f "$@" "$file"
}

#### bow devices

# bow_create NAME DEVICE [ARG]...: over the whole device.
bow_create() {
    local name=$1 dev=$2
    shift 2
    dmsetup create "$name" --table "0 $(sectors_of "$dev") bow $dev${*:+ $# $*}" || return
    dmsetup mknodes "$name"
}

# bow_remove NAME: whoever looked at the device a moment ago may still hold it.
bow_remove() {
    dmsetup remove --retry "$1"
}

# bow_sysfs NAME: the folder with state and free.
bow_sysfs() {
    local dev
    dev=$(dmsetup info -c --noheadings -o blkdevname "$1") || return
    [ -d "/sys/block/$dev/bow" ] || { echo "$1 has no /sys/block/$dev/bow" >&2; return 1; }
    echo "/sys/block/$dev/bow"
}

bow_state() {
    local dir
    dir=$(bow_sysfs "$1") && cat "$dir/state"
}

bow_free() {
    local dir
    dir=$(bow_sysfs "$1") && cat "$dir/free"
}

# bow_set NAME STATE: by sysfs. The shell's own message names the error.
bow_set() {
    local dir
    dir=$(bow_sysfs "$1") && (echo "$2" >"$dir/state")
}

# digest DEVICE [FIRST-SECTOR SECTORS]: of what is on it, past the page cache.
digest() {
    # Pages of the cache may be older than what a target above has written.
    [ ! -b "$1" ] || blockdev --flushbufs "$1" || return
    dd if="$1" bs=512 ${2:+skip="$2"} ${3:+count="$3"} status=none iflag=fullblock | sha256sum | cut -d' ' -f1
}

drop_caches() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
}

mnt=$work/mnt
mkdir -p "$mnt"

#### The end

# undo: a scenario may leave mounts, devices and loop files; the order is that
# in which they stand on each other. Fails when something cannot be removed.
undo() {
    local try left
    cd /
    for try in 1 2 3 4 5; do
        awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/mounts | sort -r |
            while read -r dir; do umount "$dir" 2>/dev/null || umount -l "$dir"; done
        dmsetup ls 2>/dev/null | awk '/^(bow|slice-|test-)/ { print $1 }' |
            while read -r name; do
                # A suspended device would hold up its own removal.
                dmsetup resume "$name" 2>/dev/null
                dmsetup remove "$name" 2>/dev/null
            done
        left=$(dmsetup ls 2>/dev/null | grep -E '^(bow|slice-|test-)')
        [ -n "$left" ] || break
        sleep 0.3
    done
    # A partition that stays would be another name for the first slice of the next scenario.
    [ ! -s "$work/partitioned" ] || sort -u "$work/partitioned" | while read -r disk; do
        wipefs -qa "$disk" >/dev/null && blockdev --rereadpt "$disk"
    done || left="$left partitions"
    losetup -nO NAME,BACK-FILE 2>/dev/null | awk -v w="$work/" -v d="/var/tmp/bow-test-disk.$$" \
        'index($2, w) == 1 || index($2, d) == 1 { print $1 }' | xargs -rn1 losetup -d
    rm -f "/var/tmp/bow-test-disk.$$".*
    [ "$loaded" = 0 ] || [ -n "$left" ] || rmmod dm_bow 2>/dev/null || [ ! -d /sys/module/dm_bow ] || left=module
    rm -rf "$work"
    [ -z "$left" ] || { echo "# left behind: $left"; return 1; }
}
