#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The state file and the messages take the next state and nothing else.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 74
load_bow

dev=$(slice data 16384)

# refused WORD STATE: by the state file, with a word in the log; changes nothing.
# Three results.
refused() {
    local before
    before=$(digest "$dev")
    fails "state $2 refuses '${1:0:20}' and the log says what is accepted" 'bow.*(0|1|2|accept|expect)' \
        bow_set bow0 "$1"
    same "with EINVAL" 1 "$( (bow_set bow0 "$1") 2>&1 | grep -c 'Invalid argument')"
    same "and nothing changes" "$2 $before" "$(bow_state bow0) $(digest "$dev")"
}

long=$(printf '1%.0s' {1..4000})

bow_create bow0 "$dev" || bail "no device"
blkdiscard -f -o 1M -l 4M /dev/mapper/bow0
same "it begins in state 0" 0 "$(bow_state bow0)"
for word in 2 0 3 -1 x '' '1 1' 1x 01x "$long"; do refused "$word" 0; done
fails "state 0 refuses the message commit" "bow" bow_message bow0 commit
fails "and an unknown one" "bow" bow_message bow0 restore
fails "and one with too many words" "bow" dmsetup message bow0 0 checkpoint now
same "and stays 0" 0 "$(bow_state bow0)"

check "1 is taken" bow_set bow0 1
same "and read back" 1 "$(bow_state bow0)"
# Writes to the device below, which the digest reads, are none of these.
for word in 1 0 3 x '' '2 2' "$long"; do refused "$word" 1; done
fails "state 1 refuses the message checkpoint" "bow" bow_message bow0 checkpoint

check "2 is taken" bow_set bow0 2
same "and read back" 2 "$(bow_state bow0)"
for word in 0 1 2 3; do refused "$word" 2; done
fails "state 2 refuses the message commit" "bow" bow_message bow0 commit
bow_remove bow0
