#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# With on_full:commit the checkpoint is committed when space runs out, and no write fails.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 9
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" on_full:commit || bail "no device"
exercise free /dev/mapper/bow0 20000+2000 >/dev/null || bail "cannot discard"
checkpoint bow0 || bail "no checkpoint"
before=$(events bow0)
klog_mark
# All over the device, the first block among it: it moves home in the middle.
check "no write fails" exercise run /dev/mapper/bow0 --mix write=6,fua=1,read=2,flush=1,zero=1 \
    --max 64 --ops 1500
same "the state is 2" 2 "$(bow_state bow0)"
check "an event was raised" test "$(events bow0)" -gt "$before"
check "the kernel's log says so" grep -qiE 'bow.*(space|full)' <<<"$(klog)"
check "and all goes on" exercise run /dev/mapper/bow0 --ops 200 --seed 2
fails "there is nothing left to commit" "Invalid argument" bow_set bow0 2
check "remove" bow_remove bow0
no_log "after it" "$dev"
check "the bare device holds what was written" exercise verify "$dev"
