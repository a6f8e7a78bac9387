# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034,SC2154
#
# A file system is used again after a rollback, and the power fails. What the
# undone update left on the device must not be taken for something else then:
# journals and logs know the order of things by numbers that the rollback has
# taken back.
#
# A scenario sets mkfs, fsck and mount_options as for fs.sh, and size, in MiB; then it
# calls begin and round. It may define functions of the names of those below that
# do nothing, and set rewrites.

# shellcheck source=tests/kernel/common/fs.sh
. "$here/common/fs.sh"
need_module dm-flakey

# How often the undone update rewrites metadata.
rewrites=10
# Options for bowctl checkpoint.
checkpoint_options=()

# after_checkpoint: something is done to the log.
after_checkpoint() { :; }
# before_use: something is done between the rollback and the first use.
before_use() { :; }
# lose_map: the first block of the free map, which is still where it was written.
lose_map() {
    local sector
    sector=$(bowctl log --json "$dev" | sed -n 's/.*"free_map_sector": *\([0-9]\+\).*/\1/p' | head -n 1)
    [ -n "$sector" ] && dd if=/dev/zero of="$dev" seek="$sector" count=1 oflag=direct conv=notrunc status=none
}
# made_durable: what is fsynced now would be found after a power cut.
made_durable() { :; }
# before_mount: what a boot does after a power cut, before it mounts.
before_mount() { :; }

# begin: the file system with old files, on a device that power_cut knows.
begin() {
    dev=$(slice data $((size << 11)))
    linear=$(dmsetup table slice-data)
    files=30
    make_fs
}

# power_cut: from one moment on nothing reaches the disk any more. Then all that was only in memory is
# forgotten, dm-bow's too.
power_cut() {
    put_table slice-data "${linear/ linear / flakey } 0 1 1 drop_writes" && umount "$mnt" || bail "no power cut"
    ! bow_sysfs bow0 >/dev/null 2>&1 || bow_remove bow0 || bail "cannot remove"
    put_table slice-data "$linear" || bail "no power"
}

# list_files FILE: a line for each, with the hash of its contents.
list_files() {
    (cd "$mnt" && find . -name lost+found -prune -o -type f -print0 | sort -z | xargs -0 sha256sum) >"$1"
}

# are_there FILE: of such a list.
are_there() {
    (cd "$mnt" && sha256sum --quiet -c "$1")
}

# work OPTION...: see tree.py.
work() {
    tree work "$mnt" "$@" || bail "the work cannot be done"
    made_durable
}

# round NAME SEED [DANGERS]: an update is undone; then the same is done again, and something else. bowctl restore
# must tell of so many dangers. An update with an even seed is cut off as well.
results_round=6
round() {
    local what=$1 seed=$2
    bow_create bow0 "$dev" && mount_fs /dev/mapper/bow0 || bail "$what: no device"
    list_files "$work/old"
    check "$what: checkpoint" bowctl checkpoint "${checkpoint_options[@]}" bow0
    after_checkpoint || bail "$what: the log cannot be changed"
    work --seed "$seed" --rewrites "$rewrites"
    if [ $((seed % 2)) = 0 ]; then
        power_cut
    else
        umount "$mnt" && bow_remove bow0 || bail "$what: cannot remove"
    fi
    bowctl restore --quiet "$dev" >"$work/restored" 2>"$work/said"
    same "$what: rollback, and its warnings" "0 ${3:-0}" "$? $(grep -c . "$work/said")"
    sed 's/^/# /' "$work/restored" "$work/said"

    before_use || bail "$what: what was to be done cannot be done"
    mount_fs "$dev" || bail "$what: cannot mount"
    list_files "$work/found"
    check "$what: the old files and no others" diff "$work/old" "$work/found"
    work --seed "$seed" "$((seed + 100))"
    list_files "$work/new"
    power_cut

    klog_mark
    before_mount
    check "$what: mounts after the power cut" mount_fs "$dev"
    check "$what: all that was made durable is there" are_there "$work/new"
    umount "$mnt"
    check "$what: and it is clean" "${fsck[@]}" "$dev"
}

# rounds_again: three rounds on one file system.
results_rounds_again=$((3 * results_round))
rounds_again() {
    local turn
    for turn in 1 2 3; do round "round $turn" "$turn"; done
}
