#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Runs `bowctl boot` in the initramfs of dracut, and mounts the device that it
# names in place of the one of root=.

# Reboots by itself after a restore.
status=0
/usr/sbin/bowctl boot || status=$?

case $status in
0) ;;
8)
    echo "bow: a person has to decide about the checkpoint on the root partition, see above." >&2
    exit 1
    ;;
*)
    echo "bow: bowctl boot failed with $status; booting without it" >&2
    exit 0
    ;;
esac

udevadm settle --timeout=30 || true
if [ ! -e /run/bow/root ]; then
    partition=$(sed -n 's/^DEVICE=PARTUUID=//p' /var/lib/bow/root.conf)
    [ -e "/dev/disk/by-partuuid/$partition" ] || systemctl start --no-block bow-no-root.service
    exit 0
fi
mkdir -p /run/systemd/system/sysroot.mount.d
printf '[Mount]\nWhat=%s\n' "$(cat /run/bow/root)" >/run/systemd/system/sysroot.mount.d/bow.conf
systemctl daemon-reload
[ ! -e /run/bow/try ] || systemctl start --no-block bow-guard.service
