# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# A file system's way through bow: made and filled on the bare device, trimmed
# and frozen at the checkpoint, updated, and then rolled back or kept.
#
# A scenario sets dev, mkfs (a command that gets the device) and fsck (one that
# must find the file system clean and change nothing), and may set mount_options and
# files, the number of files; then it calls make_fs and `rounds`.

# shellcheck source=tests/kernel/common/bow.sh
. "$here/common/bow.sh"

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
    trace_on /dev/mapper/bow0 block_bio_queue
    check "$what: mount in state 0" mount_fs /dev/mapper/bow0 || bail "no file system"
    old=$(tree_digest "$mnt")
    check "$what: fstrim" fstrim "$mnt"
    at_rest
    check "$what: the trace is complete" trace_off
    check "$what: snapshot" bow-exercise snapshot /dev/mapper/bow0 --trace "$work/trace" \
        --numbers "$(device_numbers /dev/mapper/bow0)" --image "$work/snapshot"
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
