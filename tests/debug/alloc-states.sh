#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Each allocation of a change of state fails once, then a share of all: the state stays, or changes wholly.
# timeout: 200
. "$(dirname "$0")/common/faults.sh"
need_faults
plan 7
load_bow
faults_on

dev=$(slice data 16384)
other=$(slice other 2048)
sweep "$dev" checkpoint
sweep "$dev" commit

# Everything fails at once: the error path's own allocations too.
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 --shred 50 8192+8192 >/dev/null || bail "cannot discard"
folder=$(bow_sysfs bow0)
bad=''
for share in 5 20 70; do
    fail_share failslab "$share"
    fail_share fail_page_alloc "$share"
    for _ in 1 2 3 4 5 6; do
        { echo 1 >"$folder/state"; } 2>"$work/set.out" && break
        grep -q 'Cannot allocate memory' "$work/set.out" || bad="$share %: $(cat "$work/set.out")"
    done
    faults_off
done
same "with a share of all allocations failing it is ENOMEM, or done" "" "$bad"
[ "$(bow_state bow0)" = 1 ] || bow_set bow0 1
same "and afterwards the state is 1" 1 "$(bow_state bow0)"
bow_remove bow0
covered
