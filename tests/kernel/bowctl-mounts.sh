#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# bowctl rollback of a file system that is mounted in several places: bind mounts, other namespaces, a mount over it.
# timeout: 240

# In a namespace of its own, so that its mounts can go on to the namespaces of others, as with systemd.
[ -n "${IN_NAMESPACE:-}" ] || IN_NAMESPACE=1 exec unshare -m --propagation private bash "$0" "$@"

. "$(dirname "$0")/lib.sh"
. "$here/common/fs.sh"
plan 27
mount --make-rshared / || bail "mounts cannot be shared"
load_bow

dev=$(slice data 131072)
mkfs.ext4 -q -F -b 4096 "$dev" && bowctl create bow0 "$dev" >/dev/null && dmsetup mknodes &&
    mount -o noatime /dev/mapper/bow0 "$mnt" || bail "no device"
part=$work/part
mkdir "$mnt/dir" "$part" && echo old >"$mnt/dir/file" || bail "no files"

# begin: takes a checkpoint, and changes the file.
begin() {
    bowctl checkpoint bow0 >/dev/null 2>&1 || bail "no checkpoint"
    echo new >"$mnt/dir/file"
}
# is TEXT STATE NAME: what the file has, and the state of the device. 2 results.
is() {
    same "$3: the file" "$1" "$(cat "$mnt/dir/file")"
    same "$3: the state" "$2" "$(bow_state bow0)"
}
# elsewhere PROPAGATION: a process has a mount namespace of its own. Sets other.
elsewhere() {
    unshare -m --propagation "$1" sleep 1000 &
    other=$!
    # shellcheck disable=SC2016 # for the other shell
    timeout 10 bash -c 'while [ /proc/$0/ns/mnt -ef /proc/$1/ns/mnt ] || ! grep -q sleep /proc/$1/comm; do sleep 0.1; done' \
        $$ "$other" || bail "no namespace"
}
# ends: that process.
ends() {
    kill "$other"
    wait "$other" 2>/dev/null
}

begin
elsewhere slave
same "status has the mount point once" "$mnt" "$(bowctl status bow0 | sed -n 's/^  mounted on: //p')"
check "another namespace that follows this one is not in the way" bowctl rollback bow0
is old 0 "with it"
check "it is mounted there again" grep -q "$mnt" "/proc/$other/mountinfo"
ends

begin
elsewhere private
fails "one that does not follow is in the way" "in the namespace of" bowctl rollback bow0
is new 1 "with it"
same "mounted as before" noatime "$(findmnt -no OPTIONS "$mnt" | tr , '\n' | grep noatime)"
ends
check "it is not when it has ended" bowctl rollback bow0
is old 0 "without it"

mount --bind -o ro "$mnt/dir" "$part" || bail "no bind mount"
begin
check "with a directory of it mounted elsewhere" bowctl rollback bow0
is old 0 "with that"
same "the directory is mounted again" old "$(cat "$part/file")"
same "as a part" "/dir" "$(findmnt -no FSROOT "$part")"
same "read-only as before" ro "$(findmnt -no VFS-OPTIONS "$part" | cut -d, -f1)"

begin
umount "$mnt"
fails "the directory alone" "only a part" bowctl rollback bow0
same "it stays" new "$(cat "$part/file")"
mount -o noatime /dev/mapper/bow0 "$mnt" && umount "$part" || bail "not mounted"

mount -t tmpfs tmpfs "$mnt" && echo other >"$mnt/file" || bail "no tmpfs"
fails "another mount over it" "another mount is over" bowctl rollback bow0
same "that one stays" other "$(cat "$mnt/file")"
umount "$mnt"
is new 1 "with it"

check "nobody reads what it says" sh -c 'bowctl rollback bow0 >/dev/full'
is old 0 "then too"
