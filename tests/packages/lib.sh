# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034
#
# What the tests of the packages share. A scenario is tests/packages/NAME.sh, laid
# out as a kernel selftest. It runs as root in a fresh copy of a Debian tree
# (scripts/root/user-root), which nobody uses after it:
#
#   $one, $two   folders with the packages, in an older and a newer version
#   $release     the test kernel, which is installed there with its headers
#   $keep        a folder that outlasts the scenario

set -u
one=${one:?} two=${two:?} release=${release:?} keep=${keep:?}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d /tmp/packages.XXXXXX)
export DEBIAN_FRONTEND=noninteractive

# The kernel's log is that of the host, which has nothing to say here.
klog_mark() { :; }
klog() { :; }
undo() { rm -rf "$work"; }
. "$here/../kernel/common/ktap.sh"

# This machine has no block devices: those of the host are nothing to it, and one may have a
# checkpoint. Nothing of this is seen outside.
mkdir "$work/block" "$work/class"
mount --make-rprivate /sys && mount --bind "$work/block" /sys/block &&
    mount --bind "$work/class" /sys/class/block || bail "cannot hide the devices of the host"

# package NAME FOLDER: the file of a package.
package() {
    echo "$2/$1"_*.deb
}

# apt COMMAND...: as a user, but without the network: nobody listens at that port.
apt() {
    apt-get -y -q -o Acquire::Retries=0 -o Acquire::http::Proxy=http://127.0.0.1:9 --no-install-recommends "$@" 2>&1 | tee -a "$work/apt.log"
    return "${PIPESTATUS[0]}"
}

# says TEXT: the last calls of apt have said so.
says() {
    grep -qF -- "$1" "$work/apt.log" || {
        tail -n 40 "$work/apt.log"
        return 1
    }
}

# files: everything on the machine but what apt and dpkg keep for themselves, caches and logs.
files() {
    find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /run \
        -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/log -o -path /var/cache -o -path "$keep" \
        -o -path /etc/ld.so.cache \) -prune -o -print | sort
}

# module: the module that is installed for the test kernel, or nothing.
module() {
    find "/lib/modules/$release/updates" -name 'dm-bow.ko*' 2>/dev/null
}

# in_initramfs PATTERN: the initramfs of the test kernel has such a file.
in_initramfs() {
    lsinitramfs "/boot/initrd.img-$release" | grep -qE "$1"
}

# source_version VERSION: what dpkg takes the kernel's source for; what it was is printed.
source_version() {
    local source
    source=$(dpkg-query -W -f '${Package}' 'linux-source-*')
    dpkg-query -W -f '${Version}' "$source"
    sed -i "/^Package: $source\$/,/^\$/s/^Version: .*/Version: $1/" /var/lib/dpkg/status
}
