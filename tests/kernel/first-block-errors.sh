#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A change of state whose writes to the first block fail, and fail again when they are to be taken back, loses nothing.
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
plan 28
need_module dm-flakey
load_bow

dev=$(slice data 32768)
good="0 32768 linear $dev 0"
bad="0 8 flakey $dev 0 0 1 1 error_writes
8 32760 linear $dev 8"
dmsetup create test-lower --table "$good" && dmsetup mknodes || bail "no lower device"
says() { # WHAT STATE ERROR
    same "$1" "$2 $3" "$(bow_field bow0 state) $(bow_field bow0 error)"
}
put() { # BLOCK
    dd if=/dev/urandom of=/dev/mapper/bow0 bs=4096 seek="$1" count=1 oflag=direct conv=notrunc status=none
}
get() { # BLOCK
    dd if=/dev/mapper/bow0 of="$work/block" bs=4096 skip="$1" count=1 iflag=direct status=none
}
# fails_there WHAT: what must not be acknowledged is not.
fails_there() {
    fails "$1: the first block is not read" "Input/output error" get 0
    fails "$1: nor written" "Input/output error" put 0
    fails "$1: nor is a block that nobody has written" "Input/output error" put 100
    check "$1: others are read" get 100
}

for block in 512 4096; do
    what="block_size:$block"
    exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
    bow_create bow0 /dev/mapper/test-lower "$what" || bail "no device"
    exercise free /dev/mapper/bow0 16384+256 >/dev/null || bail "cannot discard"

    put_table test-lower "$bad" || bail "no bad table"
    before=$(events bow0)
    fails "$what: a checkpoint fails" "Input/output error" bow_set bow0 1
    says "$what: it may be on the device" 1 failed
    check "$what: an event says so" test "$(events bow0)" -gt "$before"
    fails_there "$what"
    put_table test-lower "$good" || bail "no good table"
    check "$what: a commit ends it" bow_set bow0 2
    says "$what: the status says so" 2 ok
    check "$what: the contents are the same" exercise verify /dev/mapper/bow0

    bow_set bow0 0 && bow_set bow0 1 || bail "no checkpoint"
    put_table test-lower "$bad" || bail "no bad table"
    fails "$what: a commit fails" "Input/output error" bow_set bow0 2
    put_table test-lower "$good" || bail "no good table"
    check "$what: and is done later" bow_set bow0 2
    check "$what: remove" bow_remove bow0
    no_log "$what" "$dev"
done
