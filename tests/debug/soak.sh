#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# fsx and fio with verify on ext4 and XFS over bow, across checkpoints, commits and rollbacks.
# timeout: 1200
. "$(dirname "$0")/common/faults.sh"
# Seconds for each file system.
seconds=${SOAK_SECONDS:-40}
seed=${SOAK_SEED:-$(od -An -tu4 -N4 /dev/urandom | tr -d ' ')}
command -v fsx >/dev/null || skip_all "there is no fsx"
plan 21
load_bow
echo "# seed $seed (SOAK_SEED= runs it again)"

# fsx goes on until it is stopped.
start_fsx() {
    mkdir -p "$work/fsx"
    fsx -S "$seed" -P "$work/fsx" "$mnt/fsx" >"$work/fsx.out" 2>&1 &
    fsx=$!
}
# fio in passes, for as long as the file $work/fio-on is there.
start_fio() {
    rm -f "$work/fio.passes"
    touch "$work/fio-on"
    (
        passes=0
        while [ -e "$work/fio-on" ]; do
            fio --name=soak --filename="$mnt/fio" --size=6m --rw=randwrite --bsrange=512-64k --blockalign=512 \
                --ioengine=libaio --iodepth=8 --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 \
                --fsync=32 --randseed="$((seed + passes))" --output-format=terse >"$work/fio.out" 2>&1 || exit
            passes=$((passes + 1))
            echo "$passes" >"$work/fio.passes"
        done
    ) &
    fio=$!
}
# both_ended WHAT: 2 results.
both_ended() {
    rm -f "$work/fio-on"
    kill -0 "$fsx" 2>/dev/null
    same "$1: fsx has found nothing wrong" 0 $?
    kill "$fsx" 2>/dev/null
    wait "$fsx" 2>/dev/null
    wait "$fio"
    local status=$?
    same "$1: neither has fio ($(cat "$work/fio.passes" 2>/dev/null || tail -n 2 "$work/fio.out") passes)" 0 "$status"
    [ "$(wc -c <"$work/fsx.out")" -lt 5000 ] || : >"$work/fsx.out"
}

soak() { # NAME MKFS...
    local what=$1 dev old old_files third=$((seconds / 4))
    shift
    dev=$(slice "$what" $((320 << 11)))
    "$@" "$dev" >"$work/mkfs.out" 2>&1 || bail "mkfs: $(cat "$work/mkfs.out")"
    bow_create bow0 "$dev" || bail "no device"
    mount /dev/mapper/bow0 "$mnt" || bail "no file system"
    tree fill "$mnt/quiet" --files 40
    old=$(tree_digest "$mnt/quiet")
    fsfreeze -f "$mnt" && fsfreeze -u "$mnt"

    # A checkpoint that is kept: taken and committed under load.
    start_fsx
    start_fio
    sleep "$third"
    check "$what: fstrim under load" fstrim "$mnt"
    fsfreeze -f "$mnt"
    check "$what: checkpoint" bow_set bow0 1
    fsfreeze -u "$mnt"
    sleep "$third"
    check "$what: commit under load" bow_set bow0 2
    sleep "$third"
    both_ended "$what, across checkpoint and commit"
    umount "$mnt"
    bow_remove bow0

    # One that is rolled back.
    bow_create bow0 "$dev" || bail "no device"
    mount /dev/mapper/bow0 "$mnt" || bail "no file system"
    same "$what: the other files are as they were" "$old" "$(tree_digest "$mnt/quiet")"
    rm -f "$mnt/fsx" "$mnt/fio"
    fstrim "$mnt"
    old_files=$(cd "$mnt" && find . | sort | sha256sum)
    fsfreeze -f "$mnt"
    bow_set bow0 1 || bail "no checkpoint"
    fsfreeze -u "$mnt"
    start_fsx
    start_fio
    sleep "$third"
    both_ended "$what, in state 1"
    umount "$mnt"
    bow_remove bow0
    check "$what: bowctl rolls back" bowctl restore "$dev"
    mount "$dev" "$mnt" || bail "what was rolled back does not mount"
    same "$what: and its files are those of the checkpoint" "$old $old_files" \
        "$(tree_digest "$mnt/quiet") $(cd "$mnt" && find . | sort | sha256sum)"
    umount "$mnt"
}

need_fs xfs
soak ext4 mkfs.ext4 -q -F
soak xfs mkfs.xfs -q -f
check "the module unloads" unload_bow
loaded=0
echo "# covered: $seconds s of fsx and fio on each of ext4 and XFS"
