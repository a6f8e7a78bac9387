#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
# dm-bow-dkms: DKMS builds the module for the test kernel, or skips it and says why; the initramfs follows.
# timeout: 1500
. "$(dirname "$0")/lib.sh"
plan 37

# So that one sees in the initramfs what was in /lib/modules when it was made.
echo dm-bow >>/etc/initramfs-tools/modules
dkms generate_mok >/dev/null
files >"$work/before"
version=$(dpkg-deb -f "$(package dm-bow-dkms "$one")" Version)

# instead_of PROGRAM LINE: a shell script of one line takes the place of a program in /usr/bin, where apt looks.
instead_of() {
    printf '#!/bin/sh\n%s\n' "$2" >"$work/$1"
    chmod +x "$work/$1"
    mount --bind "$work/$1" "/usr/bin/$1"
}

# Another compiler: everything is installed, but for the module.
instead_of rustc 'echo "rustc 1.96.1 (made up)"'
check "install with another rustc" apt install "$(package bowctl "$one")" "$(package dm-bow-dkms "$one")"
check "it says why there is no module" says "dm-bow: no module for $release: it was built with 'rustc 1.85"
same "there is none" "" "$(module)"
dkms build "dm-bow/$version" -k "$release" >"$work/log" 2>&1
same "dkms build calls it skipped" 77 $?
check "the kernel's headers are installed all the same" linux-run-hooks headers postinst "$release" -- configure
check "remove" apt remove dm-bow-dkms
umount /usr/bin/rustc

# Another source.
was=$(source_version 7.3.99-1)
check "install with another source" apt install "$(package dm-bow-dkms "$one")"
check "it says which one is wanted" says "(apt install linux-source-${was%%.*}"
same "there is no module" "" "$(module)"

# The right one comes: dpkg's trigger.
source_version "$was" >/dev/null
check "the source comes" sh -c 'dpkg-trigger --by-package=linux-base --no-await /usr/src && dpkg --configure -a'
module=$(module)
check "DKMS has installed a module" test -n "$module"
check "it is for this kernel" sh -c "modinfo -F vermagic '$module' | grep -qF '$release '"
check "it is signed with the key of DKMS" sh -c "modinfo -F signer '$module' | grep -q DKMS"
check "modprobe finds it" sh -c "modprobe -S '$release' --show-depends dm-bow | grep -q updates/dkms/dm-bow"
check "the initramfs was made after it" in_initramfs '/dm-bow\.ko'
cp "$module" "$keep/"

# The order of a kernel's upgrade: the image with its initramfs first, then the headers.
check "the module goes" dkms uninstall "dm-bow/$version" -k "$release"
check "(an initramfs is made without it)" update-initramfs -u -k "$release"
fails "(the module is not in that)" '' in_initramfs '/dm-bow\.ko'
check "the headers come" linux-run-hooks headers postinst "$release" -- configure
check "the module is there" test -e "$module"
check "the initramfs has it" in_initramfs '/dm-bow\.ko'

# A build that fails is skipped too.
check "the module goes again" dkms unbuild "dm-bow/$version" -k "$release"
instead_of bindgen 'exit 1'
check "the kernel's headers are installed when the build fails" linux-run-hooks headers postinst "$release" -- configure
same "there is no module" "" "$(module)"
check "the log has the reason" grep -q "no module for $release" "/var/lib/dkms/dm-bow/$version/build/make.log"
umount /usr/bin/bindgen

# A later version, when this kernel's source is no longer to be had.
source_version 7.3.99-1 >/dev/null
touch "$work/mark"
check "upgrade" apt install "$(package bowctl "$two")" "$(package dm-bow-dkms "$two")"
check "the module was built anew" test "$module" -nt "$work/mark"
same "DKMS has one version" 1 "$(dkms status dm-bow | grep -c .)"
check "the newer one" sh -c "dkms status dm-bow | grep -qF '$(dpkg-deb -f "$(package dm-bow-dkms "$two")" Version)'"
check "the initramfs was made after it" test "/boot/initrd.img-$release" -nt "$module"

# Metadata of a kernel that is gone.
mkdir /var/lib/dm-bow-dkms/1.2.3
check "a kernel's headers go" sh -c 'dpkg-trigger --by-package=linux-base --no-await /usr/src && dpkg --configure -a'
check "with what was made for it" test ! -e /var/lib/dm-bow-dkms/1.2.3

check "remove" apt remove dm-bow-dkms bowctl
same "the module is gone" "" "$(module)"
fails "from the initramfs too" '' in_initramfs '/dm-bow\.ko'
check "purge" dpkg --purge dm-bow-dkms bowctl
files >"$work/after"
check "nothing is left" diff "$work/before" "$work/after"
