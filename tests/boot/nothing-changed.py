# SPDX-License-Identifier: GPL-2.0
"""apt ends before it changes a package, by a person's answer or for want of a file: no checkpoint is left, nor a reboot."""

START = "enabled"


def run(t):
    t.boot()
    t.sources("bow", "step-2")
    t.run("umount /srv/archive")
    for case, command in (("a person answers no", "echo n | bowctl run -- apt-get -q full-upgrade"),
                          ("no package can be had", "bowctl run -- apt-get -q -y full-upgrade")):
        ended = t.run(command, 900, check=False)
        t.check(f"{case}: the update fails", ended.status == 1 and "no package was changed" in ended.output, ended)
        t.same("in state 0", "0", t.output("cat /sys/block/dm-0/bow/state"))
        t.grub_counts_nothing("GRUB counts nothing")
        t.same("nothing is in the history", None, t.last_update().get("outcome"))
    t.run("mount -o ro /dev/disk/by-id/virtio-archive /srv/archive")
    t.remember_files()
    # A package that has begun is another matter.
    t.machine.send("bowctl run -- apt-get -q -y -o DPkg::Post-Invoke::=false full-upgrade")
    t.comes_back()
    t.old_system(r"full-upgrade: exit status")
    t.finish()
