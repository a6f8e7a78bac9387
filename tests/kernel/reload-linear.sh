#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# After a commit under load the table is replaced by dm-linear's, and nobody above notices.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 8
load_bow

dev=$(slice data 32768)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
bow_create bow0 "$dev" || bail "no device"
exercise free /dev/mapper/bow0 16384+16384 >/dev/null || bail "cannot discard"
checkpoint bow0 || bail "no checkpoint"
load_begin /dev/mapper/bow0 --range 0+8000
check "commit under load" bow_set bow0 2
sleep 0.5
check "load linear" dmsetup load bow0 --table "0 32768 linear $dev 0"
check "resume" dmsetup resume bow0
sleep 1
load_ends "the load has seen nothing of it"
same "it is linear" linear "$(dmsetup table bow0 | cut -d' ' -f3)"
check "remove" bow_remove bow0
no_log "afterwards" "$dev"
check "the bare device holds what was written" exercise verify "$dev"
