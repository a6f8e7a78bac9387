#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Module of dracut: what the initramfs needs to decide about a checkpoint of the
# root file system. Nothing, as long as `bowctl root enable` has not been run.
# Needs dracut's systemd.

# shellcheck disable=SC2154 # dracutsysrootdir, initdir, moddir and the like are dracut's

check() {
    [[ -e ${dracutsysrootdir-}/var/lib/bow/root.conf ]] || return 1
    require_binaries bowctl dmsetup modprobe || return 1
    return 0
}

depends() {
    echo "dm systemd"
    return 0
}

installkernel() {
    hostonly='' instmods dm-mod
    hostonly='' instmods dm-bow ||
        dwarn "bow: there is no module dm-bow for kernel $kernel: it boots without checkpoints"
    return 0
}

install() {
    inst_multiple bowctl dmsetup echo modprobe sed sleep systemctl udevadm
    inst_multiple -o plymouth
    inst_simple /var/lib/bow/root.conf
    [[ ! -e ${dracutsysrootdir-}/etc/bow.conf ]] || inst_simple /etc/bow.conf
    inst_rules 61-bow.rules
    inst_script "$moddir/bow-boot.sh" /usr/lib/bow/bow-boot
    for unit in bow-boot bow-guard bow-no-root; do
        inst_simple "$moddir/$unit.service" "$systemdsystemunitdir/$unit.service"
    done
    $SYSTEMCTL -q --root "$initdir" add-wants initrd.target bow-boot.service
    $SYSTEMCTL -q --root "$initdir" add-requires sysroot.mount bow-boot.service 2>/dev/null || {
        mkdir -p "$initdir$systemdsystemunitdir/sysroot.mount.requires"
        ln -sfn ../bow-boot.service "$initdir$systemdsystemunitdir/sysroot.mount.requires/bow-boot.service"
    }
}
