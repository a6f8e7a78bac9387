#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Both state changes under load: what is not written rolls back, what is written is kept.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 13
load_bow

# The first block belongs to the part under load: its move is the tricky one.
# Which of the writes in flight the checkpoint holds is not said, so only the
# quiet part can be compared after a rollback.
dev=$(slice data 65536)
quiet=$work/quiet
check "fill the part under load" exercise fill "$dev" --window 0+16384
check "fill the quiet part" bow-exercise fill "$dev" --model "$quiet" --window 16384+8192 --seed 2

# begin: leaves the load running, in state 0.
begin() {
    bow_create bow0 "$dev" || bail "no device"
    blkdiscard -qf -o 16M -l 16M /dev/mapper/bow0 || bail "cannot discard"
    load_begin /dev/mapper/bow0 --depth 16 --max 64 --mix read=2,write=4,fua=1,flush=1,zero=1
}
# ended WHAT
ended() {
    sleep 1
    load_ends "$1: the load has seen nothing of it"
}

begin
check "kept: checkpoint under load" bow_set bow0 1
sleep 1
check "kept: commit under load" bow_set bow0 2
ended kept
bow_remove bow0
check "kept: the bare device holds what was written" exercise verify "$dev"
check "kept: and the quiet part" bow-exercise verify "$dev" --model "$quiet"

cp "$quiet" "$saved"
begin
check "rolled back: checkpoint under load" bow_set bow0 1
ended "rolled back"
bow-exercise run /dev/mapper/bow0 --model "$quiet" --ops 100 --max 64 >/dev/null || bail "bios in the quiet part"
bow_remove bow0 || bail "cannot remove"
both_readers "rolled back" "$dev" as_saved
no_log "rolled back" "$dev"
