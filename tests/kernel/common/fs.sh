# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# A file system's way through bow: made and filled on the bare device, trimmed
# and frozen at the checkpoint, updated, and then rolled back or kept.
#
# A scenario sets dev, mkfs (a command that gets the device) and fsck (one that
# must find the file system clean and change nothing), and may set mount_options
# and files, the number of files; then it calls make_fs and `rounds`.

# shellcheck source=tests/kernel/common/bow.sh
. "$here/common/bow.sh"

# A trace buffer of our own: whoever traces on this machine is not disturbed.
trace=/sys/kernel/tracing/instances/bow-test-$$

# trace_start NAME: notes every bio that is sent to the bow device from now on.
trace_start() {
    mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
    mkdir "$trace" || bail "no tracing: cannot tell which sectors are free"
    local numbers major minor
    numbers=$(dmsetup info -c --noheadings -o major,minor --separator , "$1")
    major=${numbers%,*} minor=${numbers#*,}
    echo 8192 >"$trace/buffer_size_kb"
    echo "dev == $((major << 20 | minor))" >"$trace/events/block/block_bio_queue/filter"
    echo 1 >"$trace/events/block/block_bio_queue/enable"
}

# trace_stop NAME IMAGE: saves what was not free. Two results.
trace_stop() {
    echo 0 >"$trace/events/block/block_bio_queue/enable"
    cat "$trace/trace" >"$work/trace"
    # shellcheck disable=SC2126 # one count over all processors
    same "$what: the trace is complete" 0 \
        "$(grep -h '^overrun' "$trace"/per_cpu/*/stats | grep -vc ': 0$')"
    rmdir "$trace"
    check "$what: snapshot" bow-exercise snapshot "/dev/mapper/$1" --trace "$work/trace" \
        --numbers "$(dmsetup info -c --noheadings -o major,minor --separator , "$1")" --image "$2"
}

as_snapshot() {
    bow-exercise compare "$1" --image "$work/snapshot"
}

mount_fs() {
    mount ${mount_options:+-o "$mount_options"} "$1" "$mnt"
}

# at_rest NAME: the file system has all on the device and is quiet, so that what
# a rollback brings back is clean.
at_rest() {
    sync -f "$mnt"
    if fsfreeze -f "$mnt" 2>/dev/null; then
        frozen=1
    else
        # vfat cannot be frozen: out of use is quiet enough.
        frozen=
        umount "$mnt"
    fi
}

in_use() {
    if [ -n "$frozen" ]; then
        fsfreeze -u "$mnt"
    else
        mount_fs "/dev/mapper/$1"
    fi
}

# to_checkpoint [BOW-ARGUMENT]...: the device is in state 1 afterwards, the
# snapshot taken and the file system in use. Sets old to its digest. 6 results.
to_checkpoint() {
    check "$what: create" bow_create bow0 "$dev" "$@" || bail "no device"
    trace_start bow0
    check "$what: mount in state 0" mount_fs /dev/mapper/bow0 || bail "no file system"
    old=$(tree_digest "$mnt")
    check "$what: fstrim" fstrim "$mnt"
    at_rest
    trace_stop bow0 "$work/snapshot"
    check "$what: checkpoint" bow_set bow0 1
    in_use bow0
}

# update SEED: sets new to the digest after it. 1 result.
update() {
    check "$what: update in state 1" tree update "$mnt" --seed "$1"
    new=$(tree_digest "$mnt")
}

# holds WHICH DIGEST DEVICE: fsck and content, on a device out of use. 2 results.
holds() {
    # Journals are replayed by a mount; a check before it would see old blocks.
    mount_fs "$3" || { not_ok "$what: $1 mounts"; return; }
    same "$what: the content is $1" "$2" "$(tree_digest "$mnt")"
    umount "$mnt"
    check "$what: $1 file system is clean" "${fsck[@]}" "$3"
}

results_roll_back=13
roll_back() {
    what="rollback${*:+ with $*}"
    to_checkpoint "$@"
    update 11
    umount "$mnt"
    check "$what: remove" bow_remove bow0
    both_readers "$what" "$dev" as_snapshot
    holds old "$old" "$dev"
}

results_keep=13
keep() {
    what="commit${*:+ with $*}"
    to_checkpoint "$@"
    update 12
    drop_caches
    same "$what: state 1 reads what was written" "$new" "$(tree_digest "$mnt")"
    check "$what: commit" bow_message bow0 commit
    umount "$mnt"
    check "$what: remove" bow_remove bow0
    no_log "$what" "$dev"
    holds new "$new" "$dev"
}

# rounds [BOW-ARGUMENT]...: a rollback and then a commit, on one file system.
rounds() {
    roll_back "$@"
    keep "$@"
}
results_rounds=$((results_roll_back + results_keep))

make_fs() {
    "${mkfs[@]}" "$dev" >"$work/mkfs.out" 2>&1 || bail "mkfs: $(cat "$work/mkfs.out")"
    mount_fs "$dev" || bail "cannot mount what mkfs made"
    tree fill "$mnt" --files "${files:-80}"
    umount "$mnt"
}
