#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# dm-bow-root with the prebuilt module: installed, upgraded, removed; which kernel GRUB boots.
. "$(dirname "$0")/lib.sh"
plan 21

prebuilt=dm-bow-modules-$release
packages() {
    package bowctl "$1"
    package "$prebuilt" "$1"
    package dm-bow-root "$1"
}

files >"$work/before"
# shellcheck disable=SC2046 # a word each
check "install" apt install $(packages "$one")
check "the module is for this kernel" sh -c "modinfo -F vermagic '$(module)' | grep -qF '$release '"
check "modprobe finds it" sh -c "modprobe -S '$release' --show-depends dm-bow | grep -q updates/dm-bow"
check "the kernel is kept" sh -c "dpkg-query -W -f '\${Depends}' '$prebuilt' | grep -qF 'linux-image-$release (='"
fails "the module of DKMS is not installed beside it" 'need to be removed' \
    apt install --no-remove "$(package dm-bow-dkms "$one")"
check "an example of the configuration" test -s /usr/share/bow/bow.conf
check "the configuration is the administrator's" test ! -e /etc/bow.conf
check "no unit is on" sh -c '! find /etc/systemd -name "bow-*" | grep .'
check "units are sound" systemd-analyze verify --man=no /usr/lib/systemd/system/bow-commit.service
check "an initramfs is made" update-initramfs -u -k "$release"
fails "without bow, before bowctl root enable" '' in_initramfs 'sbin/bowctl'

# A newer kernel comes, without a module. Where the file system of / is, GRUB need not know here.
for kernel in "$release" 99.1-amd64; do
    [ -e "/boot/vmlinuz-$kernel" ] || cp "/boot/vmlinuz-$release" "/boot/vmlinuz-$kernel"
done
printf '#!/bin/sh\ncase $* in *fs_uuid*) echo 1234-5678 ;; *target=fs\\ *) echo ext2 ;; *partmap*) echo gpt ;; *) echo /dev/vda1 ;; esac\n' \
    >"$work/grub-probe"
chmod +x "$work/grub-probe"
mount --bind "$work/grub-probe" /usr/sbin/grub-probe
mkdir -p /boot/grub
first() { grub-mkconfig 2>"$work/log" | awk '$1 == "linux" { print $2; exit }'; }
same "GRUB boots the newest kernel" /boot/vmlinuz-99.1-amd64 "$(first)"
touch /var/lib/bow/root.conf
same "with bow under the root file system, the newest that has the module" "/boot/vmlinuz-$release" "$(first)"
mkdir -p /lib/modules/99.1-amd64/updates
cp "$(module)" /lib/modules/99.1-amd64/updates/
same "which is the newer one, once it has it" /boot/vmlinuz-99.1-amd64 "$(first)"
rm -r /var/lib/bow/root.conf /lib/modules/99.1-amd64 /boot/vmlinuz-99.1-amd64
rmdir /boot/grub
umount /usr/sbin/grub-probe

echo 'TRIES=5' >>/etc/bow.conf
# shellcheck disable=SC2046 # a word each
check "upgrade" apt install $(packages "$two")
check "what was configured stays" grep -q TRIES=5 /etc/bow.conf
check "remove" apt remove dm-bow-root "$prebuilt" bowctl
check "no unit is left" sh -c '! find /etc/systemd /usr/lib/systemd -name "bow-*" | grep .'
same "no module" "" "$(module)"
check "purge" dpkg --purge dm-bow-root "$prebuilt" bowctl
files >"$work/after"
check "nothing is left" diff "$work/before" "$work/after"
