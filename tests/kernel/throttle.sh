#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# Writes that a cgroup's io.max holds back below hold up nobody else; what must wait for them ends when they do.
# timeout: 300
. "$(dirname "$0")/lib.sh"
. "$here/common/bow.sh"

cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
if [ -z "$cgroups" ]; then
    cgroups=$work/cgroups
    mkdir "$cgroups"
    mount -t cgroup2 none "$cgroups" || skip_all "the kernel has no cgroups"
fi
grep -qw io "$cgroups/cgroup.controllers" || skip_all "cgroups have no io controller here"
group=$cgroups/bow-test-$$ parked='' dev=''
enabled=$(cat "$cgroups/cgroup.subtree_control")
group_undo() {
    [ -z "$parked" ] || { lift; wait "$parked"; }
    [ ! -d "$group" ] || rmdir "$group"
    [[ " $enabled " == *" io "* ]] || echo -io >"$cgroups/cgroup.subtree_control"
}
trap 'status=$?; group_undo; (exit "$status"); finish' EXIT
echo +io >"$cgroups/cgroup.subtree_control" || skip_all "the io controller cannot be used"
mkdir "$group" || skip_all "no cgroup can be made"
[ -e "$group/io.max" ] || skip_all "the kernel cannot throttle"
plan 27
load_bow

# Seconds: far more than anything takes, and far less than what is held back.
bound=10

# park BYTE: rewrites of 4 MiB of changed blocks, all of them in flight, of which 8 KiB a second get through.
park() {
    local dm
    dm=$(dmsetup info -c --noheadings -o blkdevname bow0)
    echo "$(device_numbers "$dev" | tr , :) wbps=8192" >"$group/io.max" || return
    (
        echo $BASHPID >"$group/cgroup.procs"
        exec fio --name=parked --filename=/dev/mapper/bow0 --ioengine=libaio --direct=1 --rw=write --bs=64k \
            --iodepth=64 --offset="$1" --size=4m
    ) >"$work/parked" 2>&1 &
    parked=$!
    for _ in {1..300}; do
        [ "$(awk '{ print $2 }' "/sys/block/$dm/inflight")" -lt 56 ] || return 0
        sleep 0.1
    done
    cat "$work/parked"
    return 1
}

is_parked() {
    kill -0 "$parked"
}

# lift: the limit; what was held back goes on.
lift() {
    echo "$(device_numbers "$dev" | tr , :) wbps=max" >"$group/io.max"
}

# lifted WHAT: and all of it ends well.
lifted() {
    check "$1: the writes have been held back all the time" is_parked
    lift
    wait "$parked"
    same "$1: they end" 0 $?
    parked=''
}

# in_time NAME COMMAND...: ends within the bound, and well. What does not is left to itself.
in_time() {
    local name=$1 job begin=$EPOCHSECONDS
    shift
    "$@" >"$work/in-time" 2>&1 &
    job=$!
    while kill -0 $job 2>/dev/null && [ $((EPOCHSECONDS - begin)) -le $bound ]; do
        sleep 0.1
    done
    if kill -0 $job 2>/dev/null; then
        not_ok "$name" "not within $bound s"
    elif wait $job; then
        ok "$name"
    else
        not_ok "$name" "$(cat "$work/in-time")"
    fi
}

# put BYTE [BYTES]: writes so much there at once; get reads a block.
put() {
    dd if=/dev/zero of=/dev/mapper/bow0 bs="${2:-4096}" count=1 seek="$1" oflag=direct,seek_bytes status=none
}

get() {
    dd if=/dev/mapper/bow0 of=/dev/null bs=4096 count=1 skip="$1" iflag=direct,skip_bytes status=none
}

drop() { # BYTE BYTES
    blkdiscard -qf -o "$1" -l "$2" /dev/mapper/bow0
}

MIB=1048576

# device SECTORS FREE: with a checkpoint; from sector FREE on all of it is free, and 4 MiB are changed from 1 MiB on.
device() {
    dev=$(slice "data$1" "$1")
    old=$2
    dd if=/dev/urandom of="$dev" bs=1M count=$(($1 / 2048)) oflag=direct status=none
    before=$(digest "$dev" 0 "$old")
    bow_create bow0 "$dev" || bail "no device"
    drop $((old * 512)) $((($1 - old) * 512)) || bail "cannot discard"
    bow_set bow0 1 || bail "no checkpoint"
    put $MIB $((4 * MIB)) || bail "no writes"
}

as_before() {
    [ "$(digest "$1" 0 "$old")" = "$before" ]
}

#### Nothing waits but the write to the place of the relocated first block, which moves it

device 65536 32768
home=$(sector0 "$dev")
[ -n "$home" ] || bail "no log"
park $MIB || bail "nothing is held back"
put $((home * 512)) >"$work/move" 2>&1 &
move=$!
sleep 1
in_time "a first write" put $((8 * MIB))
in_time "a large one" put $((9 * MIB)) $MIB
in_time "a rewrite" put $((8 * MIB))
in_time "a discard" drop $((12 * MIB)) $MIB
in_time "a write to free space" put $((24 * MIB))
in_time "a read of the first block" get 0
in_time "a write to it" put 0
lifted "a move of the relocated first block"
wait $move
same "the relocated first block moves" 0 $?
check "to another place" test "$(sector0 "$dev")" != "$home"
check "remove" bow_remove bow0
both_readers "after a move" "$dev" as_before

#### Space that a discard has given back is used only when all writes from before have ended

device 32768 20480
put $((8 * MIB)) || bail "no first write"
put $((13 * MIB)) 262144 || bail "no writes to free space"
left=$(bow_free bow0)
drop $((13 * MIB)) 262144 || bail "cannot discard"
park $MIB || bail "nothing is held back"
# More than there is without what the discard gave back, and less than with it.
put $((5 * MIB)) $((left + 65536)) >"$work/near-full" 2>&1 &
near_full=$!
changed=''
for _ in {1..60}; do
    sleep 1
    now=$(bow_field bow0 writable)
    [ "$now" != "$changed" ] || break
    changed=$now
done
in_time "near full: a read of the first block" get 0
in_time "near full: a rewrite" put $((8 * MIB))
in_time "near full: a discard" drop $((9 * MIB)) 4096
lifted "space from a discard"
wait $near_full
same "near full: the first writes have found space" 0 $?

#### A change of state waits for all writes

park $MIB || bail "nothing is held back"
bow_set bow0 2 >"$work/commit" 2>&1 &
commit=$!
sleep 1
in_time "commit: a read" get $((7 * MIB))
lifted "commit"
wait $commit
same "commit ends" 0 $?
check "remove" bow_remove bow0
no_log "after the commit" "$dev"
