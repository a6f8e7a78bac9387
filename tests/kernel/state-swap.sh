#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# A change of state ends, or is refused, before another table goes live.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"
need_module dm-delay
plan 27
load_bow

size=32768 free=20480 room=4096
dev=$(slice data $size)
exercise fill "$dev" >/dev/null || bail "cannot fill $dev"
dd if="$dev" of="$work/first" bs=4096 count=1 status=none
head -c $((room << 9)) /dev/urandom >"$work/new"
dmsetup create test-below --table "0 $size delay $dev 0 50 $dev 0 300" && dmsetup mknodes || bail "no device"
numbers=$(lsblk -dno MAJ:MIN "$dev" | tr -d ' ')

written() {
    awk '{ print $5 }' "/sys/dev/block/$numbers/stat"
}

first_block() {
    dd if="$dev" bs=4096 count=1 iflag=direct status=none | cmp -s - "$work/first" && echo old || echo log
}

# ask HOW STATE: the change of state, in the background; how it ended is in $work/answer.
ask() {
    local file
    file=$(bow_sysfs bow0)/state
    rm -f "$work/answer"
    {
        case $1 in
        sysfs) (echo "$2" >"$file") 2>"$work/said" ;;
        message) bow_message bow0 "$(case $2 in 1) echo checkpoint ;; 2) echo commit ;; esac)" 2>"$work/said" ;;
        esac
        echo $? >"$work/answer"
    } &
    asked=$!
    sleep 0.1
}

# write_new: through whichever table is live. What had been answered then is in $work/then.
write_new() {
    dd if="$work/new" of=/dev/mapper/bow0 bs=1M oflag=direct seek=$((free << 9)) oflag=seek_bytes \
        conv=notrunc status=none
    # For who was answered to say so.
    sleep 0.2
    cat "$work/answer" 2>/dev/null >"$work/then" || echo none >"$work/then"
}

# swap STATE HOW WHEN: from the state before; asked for before the suspension or in it.
swap() {
    local what="$2, to state $1, asked for $3 the suspension" before after answer
    bow_create bow0 /dev/mapper/test-below || bail "no device"
    blkdiscard -qf -o $((free << 9)) -l $((room << 9)) /dev/mapper/bow0
    [ "$1" = 1 ] || bow_set bow0 1 || bail "no checkpoint"
    dmsetup load bow0 --table "0 $size linear $dev 0"
    [ "$3" = before ] || dmsetup suspend bow0
    ask "$2" "$1"
    # What is written while the device is suspended goes out the moment that the new table is live. The
    # command that resumes returns when the old one is gone, which is later.
    if [ "$3" = in ]; then
        write_new &
        sleep 0.1
        dmsetup resume bow0
        wait $!
    else
        dmsetup resume bow0
        write_new
    fi
    answer=$(cat "$work/then")
    before="$(written) writes, $(first_block)"
    sleep 1.2
    after="$(written) writes, $(first_block)"
    wait "$asked"
    check "$what: was answered by then ($answer: $(cat "$work/said"))" test "$answer" != none
    same "$what: no write follows" "$before" "$after"
    check "$what: what the next table has written stays" \
        cmp "$work/new" <(dd if="$dev" bs=512 skip=$free count=$room iflag=direct status=none)
    # A log where there is a checkpoint, and none where there is none.
    same "$what: the first block is what the answer says" \
        "$(case $1,$answer in 1,0 | 2,[!0]*) echo log ;; *) echo old ;; esac)" "$(first_block)"
    bow_remove bow0
    dd if="$work/first" of="$dev" bs=4096 oflag=direct conv=notrunc status=none
}

for state in 1 2; do
    swap $state sysfs in
    swap $state sysfs before
    swap $state message in
done

bow_create bow0 /dev/mapper/test-below || bail "no device"
dmsetup suspend bow0
fails "while it is suspended the file refuses" "suspended.*message" bow_set bow0 1
same "and can be read" 0 "$(bow_state bow0)"
dmsetup resume bow0
blkdiscard -qf -o $((free << 9)) -l $((room << 9)) /dev/mapper/bow0
check "afterwards it takes the next state" bow_set bow0 1
