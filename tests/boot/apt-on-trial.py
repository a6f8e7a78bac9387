# SPDX-License-Identifier: GPL-2.0
"""apt upgrades more in a boot on trial: that trial ends, nothing is kept, and the next boot tries the whole, which is kept."""

START = "enabled"


def run(t):
    t.slow_trial("step-2")
    t.sources("bow", "step-3")
    done = t.run("apt-get -q -y full-upgrade", 900)
    t.check("the second upgrade is armed", "the next boot tries the upgraded system" in done.output, done)
    t.same("the boot is on trial no more", "1", t.output("test -e /run/bow/try; echo $?"))
    t.pass_slow_check()
    t.same("the checkpoint is open", "1", t.output("cat /sys/block/dm-0/bow/state"))
    t.run("touch /etc/slow-check-passes")
    t.reboot(1200)
    t.new_system()
    t.same("both upgrades are kept", "version 3", t.output("machine-app"))
    t.same("as one update", 1, len(t.history()))
    t.finish()
