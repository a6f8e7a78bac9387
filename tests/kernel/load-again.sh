#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Which table lines can be loaded beside a live table, and in the place of one that never was live.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 25
load_bow

dev=$(slice data 32768)
other=$(slice other 16384)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
read -r _ _ _ disk start < <(dmsetup table slice-data)
# The space behind it, for it to grow into.
resize() {
    dmsetup load slice-data --table "0 $1 linear $disk $start" && dmsetup resume slice-data
}
load() {
    dmsetup load bow0 --table "$1"
}
table="0 32768 bow $dev"
loaded_word() {
    dmsetup table --inactive bow0 | tr ' ' '\n' | grep "^$1" | cut -d: -f2
}

dmsetup create bow0 --notable || bail "no device"
check "a first table" load "$table"
check "the same line in its place" load "$table"
check "another policy" load "$table 1 on_full:commit"
check "another block size" load "$table 1 block_size:512"
check "another device" load "0 16384 bow $other"
check "another target" load "0 8 zero"
check "the first block size again" load "$table 2 block_size:1024 on_full:commit"
same "the newest is what is there" "1024 commit" "$(loaded_word block_size) $(loaded_word on_full)"
fails "and it holds the device against others" "another bow device" dmsetup create bow1 --table "$table"
dmsetup remove bow1 2>/dev/null
check "resume" dmsetup resume bow0
dmsetup mknodes
same "the newest is live" "block_size:1024 on_full:commit" "$(dmsetup table bow0 | cut -d' ' -f6-)"

exercise free /dev/mapper/bow0 16384+8192 >/dev/null || bail "cannot discard"
free=$(bow_free bow0)
line=$(dmsetup table bow0)
fails "once live, no other policy" "cannot change" load "$table 2 block_size:1024 on_full:error"
fails "no other block size" "cannot change" load "$table 2 block_size:2048 on_full:commit"
fails "no other device" "cannot change" load "0 16384 bow $other 2 block_size:1024 on_full:commit"
check "another target, that is never live" load "0 8 zero"
check "the same line" load "$line"
dmsetup clear bow0
same "the table is still there, and what is free" "$line $free" "$(dmsetup table bow0) $(bow_free bow0)"

resize 32776 || bail "cannot grow"
check "the same line when the underlying device has grown" load "$line"
check "goes live" dmsetup resume bow0
same "and keeps what is free" "$free" "$(bow_free bow0)"
fails "the new length is another table" "cannot change" load "${line/32768/32776}"
resize 32760 || bail "cannot shrink"
fails "the same line when it has shrunk" "smaller" load "$line"
resize 32768
check "and when it is as it was" load "$line"
checkpoint bow0 || bail "no checkpoint"
check "in state 1 too" dmsetup resume bow0
same "the state is kept" 1 "$(bow_state bow0)"
