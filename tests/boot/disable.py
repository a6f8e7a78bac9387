# SPDX-License-Identifier: GPL-2.0
"""bowctl root disable, and the removal of the packages: the machine boots plainly, and nothing is left."""

START = "enabled"


def run(t):
    t.boot()
    t.run("bowctl root disable", 900)
    t.reboot()
    t.same("the root is the plain partition", "/dev/vda2", t.output("findmnt -no SOURCE /"))
    t.same("the module is not loaded", "no", t.output("lsmod | grep -q dm_bow && echo yes || echo no"))
    t.same("bowctl is not in the initramfs", "0", t.output("lsinitramfs /initrd.img | grep -c bowctl; :"))
    # Enabled again, and removed without being disabled.
    t.run("bowctl root enable", 900)
    t.reboot()
    t.same("enabled again", "/dev/mapper/bow-root", t.output("findmnt -no SOURCE /"))
    # With a checkpoint for it, the packages would refuse that, time and again.
    t.run("echo APT=auto >>/etc/bow.conf")
    purge = "apt-get -q -y purge bowctl 'dm-bow-*' machine-modules"
    refused = t.run(f"bowctl run -- {purge}", 300, check=False)
    t.check("bowctl run refuses the purge", refused.status != 0 and "would be removed" in refused.output, refused)
    done = t.run(purge, 900)
    t.check("apt takes no checkpoint for it", "no checkpoint is taken" in done.output, done)
    t.reboot()
    t.same("the root is the plain partition after the purge", "/dev/vda2", t.output("findmnt -no SOURCE /"))
    t.same("no unit failed", "", t.output("systemctl --failed --no-legend"))
    names = "-iname '*bowctl*' -o -name bow -o -name 'bow*.conf' -o -iname '*dm-bow*'"
    t.same("no file is left", "", t.output(
        f"find / -xdev \\( -path /var/log -o -path /srv -o -path /var/cache \\) -prune -o \\( {names} \\) -print"))
    t.same("the initramfs has none of it", "0", t.output("lsinitramfs /initrd.img | grep -c bow; :"))
    t.same("GRUB's menu has none of it", "0", t.output("grep -c bow /boot/grub/grub.cfg; :"))
    t.finish()
