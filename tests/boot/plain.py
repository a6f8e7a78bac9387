# SPDX-License-Identifier: GPL-2.0
"""A stock machine without dm-bow boots to its login prompt, starts again, and outlives a power cut."""


def run(t):
    t.boot()
    t.machine.expect(r"machine login: ", 300)
    t.check("a login prompt on the console", True)
    t.same("the test kernel runs", t.setting.release, t.release())
    t.same("the root is the plain partition", "/dev/vda2", t.output("findmnt -no SOURCE /"))
    t.same("no unit failed", "", t.output("systemctl --failed --no-legend"))
    t.remember_files()
    t.reboot()
    t.run("echo kept >/root/kept && sync")
    t.power_cut()
    t.boot()
    t.same("what was made durable before a power cut is there", "kept", t.output("cat /root/kept"))
    t.run("rm /root/kept")
    t.compare_files("all other files are what they were", "/root/kept")
    t.off()
