#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The state file and the messages take the next state and nothing else.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 52
load_bow

dev=$(slice data 4096)
long=$(printf '1%.0s' {1..4000})

# refuses STATE WORD...: the state file, each word, with EINVAL and a line in
# the log that says what is accepted. A result a word, and one for the device.
refuses() {
    local state=$1 word before out log
    before=$(digest "$dev")
    shift
    for word; do
        klog_mark
        out=$( (echo "$word" >"$file") 2>&1)
        log=$(klog)
        same "state $state refuses '${word:0:20}'" "EINVAL, logged, $state" \
            "$(grep -q 'Invalid argument' <<<"$out" && echo EINVAL), $(grep -qE 'bow.*(accept|takes)' <<<"$log" &&
                echo logged), $(cat "$file")"
    done
    same "and the device is as it was" "$before" "$(digest "$dev")"
}

bow_create bow0 "$dev" || bail "no device"
file=$(bow_sysfs bow0)/state
same "it begins in state 0" 0 "$(cat "$file")"
fails "a checkpoint needs free space" "No space left" bow_set bow0 1
same "and is not begun without" 0 "$(cat "$file")"
blkdiscard -qf -o 1M -l 512K /dev/mapper/bow0
refuses 0 2 0 3 -1 x '' '1 1' 1x 01x "$long"
fails "state 0 refuses the message commit" "bow.*(accept|takes)" bow_message bow0 commit
fails "and an unknown one" "bow.*(accept|takes)" bow_message bow0 restore
fails "and one with too many words" "bow.*(accept|takes)" dmsetup message bow0 0 checkpoint now
same "and stays 0" 0 "$(cat "$file")"

# Two at once: one of them is too late.
(echo 1 >"$file") 2>/dev/null &
first=$!
(echo 1 >"$file") 2>/dev/null
second=$?
wait "$first"
same "of two that write 1 at once, one has its way" 1 "$(($? + second))"
same "and the state is 1" 1 "$(cat "$file")"
refuses 1 1 0 3 x '' '2 2' "$long"
fails "state 1 refuses the message checkpoint" "bow.*(accept|takes)" bow_message bow0 checkpoint

check "2 is taken, as a message" bow_message bow0 commit
same "and read back" 2 "$(cat "$file")"
refuses 2 1 2 3
fails "state 2 refuses the message commit" "bow.*(accept|takes)" bow_message bow0 commit
fails "and checkpoint" "bow.*(accept|takes)" bow_message bow0 checkpoint
check "2 is followed by 0" bow_set bow0 0
same "which is read back" 0 "$(cat "$file")"
refuses 0 0 2
# raises NAME COMMAND...: the command succeeds, and one event is raised. 2 results.
raises() {
    local name=$1 before
    before=$(events bow0)
    shift
    check "$name" "$@"
    same "$name: one event" $((before + 1)) "$(events bow0)"
}
raises "the next checkpoint needs no trim" bow_set bow0 1
raises "and is committed" bow_set bow0 2
raises "the message track goes on from there" bow_message bow0 track
same "and the state is 0 again" 0 "$(cat "$file")"
check "remove" bow_remove bow0
no_log "afterwards" "$dev"

bow_create bow0 "$dev" || bail "no device"
blkdiscard -qf -o 1M -l 512K /dev/mapper/bow0
check "1 is taken as a message too" bow_message bow0 checkpoint
