#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A checkpoint goes on after the device was removed, any number of times, and rolls back to its first state.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/resumed.sh"
plan $((2 * (results_begin + 3 * results_turn) + results_roll_back + results_commit))
load_bow

for block in 512 4096; do
    dev=$(slice "data$block" 32768)
    what="block_size:$block"
    begin "$what"
    for number in 1 2 3; do turn "$number"; done
    if [ "$block" = 512 ]; then roll_back; else commit; fi
done
