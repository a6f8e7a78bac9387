#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# While a checkpoint is open no package is removed, and the refusal says what to do.
. "$(dirname "$0")/lib.sh"
plan 12

prebuilt=dm-bow-modules-$release
check "install" apt install "$(package bowctl "$one")" "$(package "$prebuilt" "$one")" "$(package dm-bow-root "$one")"

# The kernel that ran at the checkpoint; the one that runs is the host's.
echo "  \"kernel\": \"$release\"," >/var/lib/bow/pending.json
# What the kernel shows of a live device, below the /sys/block of these tests. tests/kernel/open-checkpoint.sh has the real one.
live=$work/block/dm-7
mkdir -p "$live"/{bow,dm,slaves/vdb1}
echo 1 >"$live/bow/state"
echo data >"$live/dm/name"
for name in dm-bow-root "$prebuilt" bowctl; do
    fails "$name is not removed" "${name//+/.} is not removed: a checkpoint is open on /dev/mapper/data" \
        dpkg --force-depends --remove "$name"
done
fails "it says how to go on" "bowctl commit data" /usr/lib/bow/open-checkpoint bowctl
fails "neither is the module of the running kernel" 'a checkpoint is open' /usr/lib/bow/open-checkpoint x "$(uname -r)"
same "all are installed" "installed installed installed" \
    "$(dpkg-query -W -f '${db:Status-Status} ' bowctl "$prebuilt" dm-bow-root | xargs)"
check "an upgrade goes through" apt install "$(package bowctl "$two")" "$(package "$prebuilt" "$two")" \
    "$(package dm-bow-root "$two")"
rm /var/lib/bow/pending.json
check "the module of another kernel is removed" dpkg --force-depends --remove "$prebuilt"
check "and comes back" dpkg --install "$(package "$prebuilt" "$two")"
echo 2 >"$live/bow/state"
check "after a commit they are removed" apt remove bowctl "$prebuilt" dm-bow-root
check "and gone" test ! -e /usr/sbin/bowctl
