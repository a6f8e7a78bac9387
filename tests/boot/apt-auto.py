# SPDX-License-Identifier: GPL-2.0
"""APT=auto: apt takes the checkpoint and arms it, twice in one update; a boot loader's package is refused meanwhile."""

START = "enabled"


def run(t):
    t.boot()
    t.run("echo APT=auto >>/etc/bow.conf")
    for step in ("2", "3"):
        t.sources("bow", f"step-{step}")
        done = t.run("apt-get -q -y full-upgrade", 900)
        t.check(f"upgrade {step} is armed", "the next boot tries the upgraded system" in done.output, done)
        t.same("a checkpoint is open", "1", t.output("cat /sys/block/dm-0/bow/state"))
    t.same("a reboot is asked for, once", "1", t.output(
        "test -e /run/reboot-required && grep -cx dm-bow-root /run/reboot-required.pkgs"))
    refused = t.run("apt-get -q -y install grub-efi-machine", check=False)
    t.check("a boot loader's package is refused", refused.status != 0 and "boot loader's places" in refused.output,
            refused)
    t.reboot(1200)
    t.new_system()
    t.same("both upgrades are kept", "version 3", t.output("machine-app"))
    t.same("as one update", 1, len(t.history()))
    t.finish()
