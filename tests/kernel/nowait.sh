#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# I/O that may not wait gets no EAGAIN from an underlying device that is busy once dm-bow has taken it.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 5
load_bow

dev=$(slice data 32768)
bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 8M -l 2M /dev/mapper/bow0 || bail "cannot discard"
bow_set bow0 1 || bail "no checkpoint"

check "a first write" nowait write 800

# What goes to the first block goes down from the worker, here while the underlying device is suspended, which
# answers EAGAIN to those who may not wait.
for way in write read; do
    dmsetup suspend --noflush --nolockfs "${dev##*/}" || bail "cannot suspend"
    nowait "$way" 0 2>"$work/said" &
    asker=$!
    sleep 1
    check "$way: it waits" kill -0 "$asker"
    dmsetup resume "${dev##*/}"
    status=0
    wait "$asker" || status="$? $(cat "$work/said")"
    same "$way: and succeeds" 0 "$status"
done
