# SPDX-License-Identifier: GPL-2.0
"""The packages are installed as a user would; nothing changes until dm-bow is enabled for the root."""

LEAVES = "installed"


def run(t):
    t.boot()
    # An initramfs with what this machine needs: the other kind takes two minutes to make where the CPU is emulated.
    t.run("echo MODULES=dep >/etc/initramfs-tools/conf.d/driver-policy")
    t.sources("bow")
    t.run("apt-get -q -y install dm-bow-root machine-app machine-modules", 1200)
    t.same("the module is that of the kernel that runs", t.setting.release,
           t.output("modinfo -F vermagic dm-bow | cut -d ' ' -f 1"))
    t.reboot()
    t.same("the root is the plain partition", "/dev/vda2", t.output("findmnt -no SOURCE /"))
    t.same("no unit failed", "", t.output("systemctl --failed --no-legend"))
    t.off()
