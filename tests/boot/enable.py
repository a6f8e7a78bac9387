# SPDX-License-Identifier: GPL-2.0
"""bowctl root enable: after a reboot dm-bow is under the root, in state 0."""

START = "installed"
LEAVES = "enabled"


def run(t):
    t.boot()
    enabled = t.run("bowctl root enable", 900, check=False)
    t.check("bowctl root enable", enabled.status == 0, enabled)
    t.reboot()
    t.same("the root is the mapped device", "/dev/mapper/bow-root", t.output("findmnt -no SOURCE /"))
    t.same("in state 0", "0", t.output("cat /sys/block/dm-0/bow/state"))
    t.same("links by UUID name it", "/dev/dm-0",
           t.output("readlink -f /dev/disk/by-uuid/0b0e0b0e-0000-4000-8000-000000000001"))
    t.same("no unit failed", "", t.output("systemctl --failed --no-legend"))
    t.check("a kernel that panics boots again", "panic=30" in t.output("cat /proc/cmdline"))
    status = t.run("bowctl root status", check=False)
    t.check("bowctl root status", status.status == 0, status)
    t.tell(status.output)
    t.off()
