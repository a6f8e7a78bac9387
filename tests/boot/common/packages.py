#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""packages.py FILE DEBS KERNELS: makes FILE the disk with all archives that scenarios install from.

DEBS is the folder of the project's own packages, KERNELS that of scripts/machine/kernels. The archives:

bow         the project's packages, and the first version of what the others upgrade
upgrade     a newer kernel, its module, and newer packages
kernel      the newer kernel without a module for it
step-N      version N of `machine-app`, from 2 on
layouts     no archive: images of file systems that a root is refused on
others      each a version of `machine-app` (and what it depends on) that does harm in the way of its name
"""

import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "scripts/machine/inside"))

import archive  # noqa: E402
from rename import Change  # noqa: E402

APP = "machine-app"
META = "machine-modules"
# Named as what writes to the places of a boot loader.
LOADER = "grub-efi-machine"
STEPS = 16

# Makes all initramfs anew, with whichever of the two makes them.
REMAKE = """#!/bin/sh
set -e
if command -v update-initramfs >/dev/null; then update-initramfs -u -k all; else dracut --force --regenerate-all; fi
"""

# The module of dm-bow is left out of whichever initramfs is made: a hook of initramfs-tools, settings of dracut.
# The former copies modules after all hooks have run: those that hooks have named.
NO_MODULE_HOOK = """#!/bin/sh
[ "$1" != prereqs ] || { echo bow; exit 0; }
sed -i '/dm.bow/d' "$__MODULES_TO_ADD"
"""
NO_MODULE_CONF = 'omit_drivers+=" dm.bow "\n'

# A panic before anything of dm-bow runs: scripts for both, and dracut's module that takes its script along.
PANIC = """#!/bin/sh
[ "$1" != prereqs ] || exit 0
echo c >/proc/sysrq-trigger
"""
PANIC_MODULE = """#!/bin/bash
check() { return 0; }
install() { inst_hook cmdline 00 "$moddir/panic.sh"; }
"""

# The first process that is there in place of systemd, and does nothing.
HANG = """#!/bin/sh
echo "machine-app: this init hangs" >/dev/console
exec sleep 1000000
"""

HARM = {
    # The program loader goes too, so that nothing can be run any more.
    "deletes-usr-lib": {"version": "3", "scripts": {"postinst": "#!/bin/sh\nsync\nrm -rf /usr/lib\nsync\n"}},
    "fills-disk": {"scripts": {
        "postinst": "#!/bin/sh\nmkdir -p /usr/share/machine-app\n"
                    "dd if=/dev/urandom of=/usr/share/machine-app/fill bs=1M\nexit 1\n"}},
    "low-space": {"scripts": {
        "postinst": "#!/bin/sh\nmkdir -p /usr/share/machine-app\n"
                    "while :; do dd if=/dev/zero bs=1M count=8 conv=fsync status=none; sleep 0.5; done "
                    ">>/usr/share/machine-app/fill\n"}},
    "emergency": {"scripts": {
        "postinst": "#!/bin/sh\nset -e\n"
                    "echo '/dev/disk/by-uuid/none /machine-app ext4 x-systemd.device-timeout=5 0 2' >>/etc/fstab\n"}},
    # As ext4 does it by itself when it cannot write.
    "turns-read-only": {"scripts": {"postinst": "#!/bin/sh\nsync\nmount -o remount,abort /\nexit 1\n"}},
    "init-hangs": {
        "files": {"usr/lib/machine-app/init": HANG},
        "scripts": {"postinst": "#!/bin/sh\nset -e\nln -sfn ../lib/machine-app/init /usr/sbin/init\n"}},
    "boot-hangs": {
        "files": {"usr/lib/systemd/system/machine-hang.service":
                  "[Unit]\nDescription=A unit that hangs the boot\nBefore=multi-user.target\n"
                  "[Service]\nType=oneshot\nTimeoutStartSec=infinity\nExecStart=/bin/sleep infinity\n"
                  "[Install]\nWantedBy=multi-user.target\n"},
        "scripts": {"postinst": "#!/bin/sh\nset -e\nsystemctl enable machine-hang.service\n"}},
    "check-fails": {
        "files": {"usr/lib/bow/check/required.d/50-machine-app":
                  "#!/bin/sh\necho 'machine-app: not what it should be'\nexit 1\n"}},
    "unit-fails": {
        "files": {"usr/lib/systemd/system/machine-app.service":
                  "[Unit]\nDescription=A service that fails\n[Service]\nType=oneshot\nExecStart=/bin/false\n"
                  "[Install]\nWantedBy=multi-user.target\n"},
        "scripts": {"postinst": "#!/bin/sh\nset -e\nsystemctl enable machine-app.service\n"}},
    "no-module": {
        "files": {"usr/share/initramfs-tools/hooks/zz-no-module": NO_MODULE_HOOK,
                  "usr/lib/dracut/dracut.conf.d/99-no-module.conf": NO_MODULE_CONF},
        "scripts": {"postinst": REMAKE}},
    # Both take the settings of modprobe into the initramfs.
    "finds-no-root": {
        "files": {"etc/modprobe.d/machine-app.conf": "blacklist virtio_blk\ninstall virtio_blk /bin/false\n"},
        "scripts": {"postinst": REMAKE}},
    "initramfs-panics": {
        "files": {"usr/share/initramfs-tools/scripts/init-top/machine-panic": PANIC,
                  "usr/lib/dracut/modules.d/99machine-panic/module-setup.sh": PANIC_MODULE,
                  "usr/lib/dracut/modules.d/99machine-panic/panic.sh": PANIC},
        "scripts": {"postinst": REMAKE}},
}


def app(folder, version, **more):
    """Builds the package that scenarios upgrade: a file that stays, one that goes, one that is new, a large one."""
    files = {
        "usr/bin/machine-app": f"#!/bin/sh\necho version {version}\n",
        f"usr/share/machine-app/only-{version}": f"{version}\n",
        "usr/share/machine-app/data": (f"{version} " * 8).encode() * 60000,
    }
    files.update(more.pop("files", {}))
    archive.build(folder, APP, version, files, more.pop("scripts", None), **more)


def main():
    file, debs, kernels = (Path(word) for word in sys.argv[1:])
    record = dict(line.split("=", 1) for line in (kernels / "record").read_text().split("\n") if "=" in line)
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work)
        bow = tree / "bow"
        archive.copy(sorted(debs.glob("*.deb")), bow)
        app(bow, "1")
        archive.build(bow, LOADER, "1")
        archive.build(bow, META, "1", Depends=f"dm-bow-modules-{record['RELEASE']}")
        module = next(debs.glob("dm-bow-modules-*.deb"))
        for name, kernel, steps in (("upgrade", "newer", 1), ("kernel-panics", "panics", 2)):
            folder = tree / name
            archive.copy(sorted((kernels / kernel).glob("*.deb")), folder)
            change = Change(record["RELEASE"], record["VERSION"], steps)
            assert change.release == record[kernel.upper()]
            change.package(module, folder)
            archive.build(folder, META, "2", Depends=f"dm-bow-modules-{record[kernel.upper()]}")
            app(folder, "2")
        folder = tree / "kernel"
        archive.copy(sorted((kernels / "newer").glob("*.deb")), folder)
        for name, harm in HARM.items():
            folder = tree / name
            folder.mkdir()
            app(folder, **{"version": "2", **harm})
        for step in range(2, 2 + STEPS):
            folder = tree / f"step-{step}"
            folder.mkdir()
            app(folder, str(step))
        for folder in tree.iterdir():
            archive.index(folder)
        layouts = tree / "layouts"
        layouts.mkdir()
        for name, command, size in (("xfs", ["mkfs.xfs", "-q"], 320), ("btrfs", ["mkfs.btrfs", "-q"], 128)):
            image = layouts / name
            with open(image, "wb") as new:
                new.truncate(size << 20)
            subprocess.run([*command, image], check=True)
        archive.disk(tree, file)


main()
