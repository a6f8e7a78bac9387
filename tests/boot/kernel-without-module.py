# SPDX-License-Identifier: GPL-2.0
"""A kernel without the module is not the one that boots by itself; chosen in the menu it boots plainly."""

START = "enabled"


def run(t):
    t.boot()
    t.sources("bow", "kernel")
    t.run("apt-get -q -y full-upgrade", 1800)
    t.same("the new kernel is installed", "0", t.output(f"test -e /boot/vmlinuz-{t.setting.newer}; echo $?"))
    t.reboot()
    t.same("the kernel that has the module goes on to boot", t.setting.release, t.release())
    t.same("with dm-bow under the root", "/dev/mapper/bow-root", t.output("findmnt -no SOURCE /"))
    t.run("bowctl run --no-reboot -- touch /root/new", 900)
    t.same("which a checkpoint can be taken of, and armed", "1", t.output("cat /sys/block/dm-0/bow/state"))
    t.run("bowctl commit bow-root", 300)
    entry = t.output("sed -nE \"s/^.*menuentry '[^']*" + t.setting.newer.replace("+", "\\+") +
                     "'.*menuentry_id_option '([^']*)'.*/\\1/p\" /boot/grub/grub.cfg | head -n 1")
    menu = t.output("sed -nE \"s/^submenu .*menuentry_id_option '([^']*)'.*/\\1/p\" /boot/grub/grub.cfg | head -n 1")
    t.run(f"grub-reboot '{menu}>{entry}'")
    t.reboot()
    t.same("the other kernel boots when it is chosen", t.setting.newer, t.release())
    t.same("plainly", "/dev/vda2", t.output("findmnt -no SOURCE /"))
    t.same("no unit failed", "", t.output("systemctl --failed --no-legend"))
    refused = t.run("bowctl run -- true", check=False)
    t.check("and no checkpoint can be taken", refused.status != 0, refused)
    t.finish()
