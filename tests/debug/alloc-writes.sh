#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Allocations of the write path fail, one by one, a share of them, all of them: no write fails.
# timeout: 200
. "$(dirname "$0")/common/faults.sh"
need_faults
plan 15
load_bow
faults_on

dev=$(slice data 65536)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
cp "$model" "$work/model-full"

ready() { # ARGUMENT...
    bow_create bow0 "$dev" "$@" || bail "no device"
    exercise free /dev/mapper/bow0 --shred 200 24000+40000 >/dev/null || bail "cannot discard"
}
busy=(--range 0+8000 --range 23000+2000 --range 32000+1500)
other=$(slice other 2048)

sweep "$(slice small 16384)" track
# The model knows what is free then.
ready
cp "$model" "$saved"
bow_remove bow0
sweep "$dev" writes
both_readers "each failed once" "$dev" as_saved

# share PERCENT: state 0 (discards may be forgotten), checkpoint, state 1, rollback.
share() {
    local what="$1 % of all allocations fail"
    cp "$saved" "$model"
    # Blocks of 512 bytes, so that there are several pages of the map of writable blocks, and writes across two.
    ready block_size:512
    fail_share failslab "$1"
    fail_share fail_page_alloc "$1"
    exercise run /dev/mapper/bow0 --ops 60 --seed "$1" --range 20000+8000 --mix write=2,discard=2,read=1 \
        >"$work/run.out" 2>&1 || bad="in state 0: $(cat "$work/run.out")"
    faults_off
    # What state 0 could not remember as free.
    exercise free /dev/mapper/bow0 --shred 200 24000+40000 >/dev/null || bail "cannot discard"
    checkpoint bow0 || bail "no checkpoint"
    fail_share failslab "$1"
    fail_share fail_page_alloc "$1"
    exercise run /dev/mapper/bow0 --ops 300 --seed "$1" "${busy[@]}" >"$work/run.out" 2>&1
    local status=$?
    share_failed || bad="$bad no allocation has failed"
    faults_off
    same "$what: no I/O fails ($(tail -n 1 "$work/run.out"))" 0 "$status${bad:+ $bad}"
    bow_remove bow0
    check "$what: rollback" bowctl restore "$dev"
    check "$what: every sector that was not free is as at the checkpoint" as_saved "$dev"
}
bad=''
share 20
share 100
check "the module unloads" unload_bow
loaded=0
covered
