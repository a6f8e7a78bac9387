#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# The table line loads again; status has its fields; reloading keeps the state.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 30
load_bow

dev=$(slice data 16384)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
numbers=$(lsblk -dno MAJ:MIN "$dev" | tr -d ' ')

for args in "" block_size:512 on_full:commit "on_full:error block_size:1024" "block_size:2048 on_full:commit"; do
    # shellcheck disable=SC2086 # none, one or two words
    bow_create bow0 "$dev" $args || bail "no device"
    line=$(dmsetup table bow0)
    size=$(grep -o 'block_size:[0-9]*' <<<"$args" || echo block_size:4096)
    full=$(grep -o 'on_full:[a-z]*' <<<"$args" || echo on_full:error)
    same "table of '${args:-defaults}'" "0 16384 bow $numbers 2 $size $full" "$line"
    bow_remove bow0
    check "is a table again" dmsetup create bow0 --table "$line"
    same "and the same one" "$line" "$(dmsetup table bow0)"
    bow_remove bow0
done

# A reload brings the state into the new table.
bow_create bow0 "$dev" block_size:4096 || bail "no device"
line=$(dmsetup table bow0)
exercise free /dev/mapper/bow0 8192+4096 >/dev/null || bail "cannot discard"
same "status in state 0" "0 16384 bow 0 4096 4096" "$(dmsetup status bow0 | cut -d' ' -f1-6)"
reload() {
    dmsetup load bow0 --table "${1:-$line}" && dmsetup resume bow0
}
check "reload in state 0" reload
same "keeps what is free" $((4096 * 512)) "$(bow_free bow0)"
checkpoint bow0 || bail "no checkpoint"
exercise run /dev/mapper/bow0 --range 0+1024 --ops 50 >/dev/null || bail "bios in state 1"
status=$(dmsetup status bow0)
same "status in state 1" "0 16384 bow 1 4096" "$(cut -d' ' -f1-5 <<<"$status")"
check "has entries" test "$(bow_field bow0 entries)" -gt 0
same "and no error" ok "$(bow_field bow0 error)"
fails "a reload with other arguments is refused" "arguments" reload "${line/on_full:error/on_full:commit}"
same "and leaves the table as it is" "$line" "$(dmsetup table bow0)"
check "reload in state 1" reload
same "keeps all that status tells" "$status" "$(dmsetup status bow0)"
check "and all data" exercise run /dev/mapper/bow0 --range 0+2048 --ops 100 --seed 3
check "remove" bow_remove bow0
both_readers "reloaded" "$dev" as_saved
