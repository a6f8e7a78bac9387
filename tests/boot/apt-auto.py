# SPDX-License-Identifier: GPL-2.0
"""APT=auto: apt takes the checkpoint and arms it, twice in one update; a boot loader's package is refused meanwhile; without dpkg nothing stays."""

START = "enabled"


def run(t):
    t.boot()
    t.run("echo APT=auto >>/etc/bow.conf")
    # As dpkg-preconfigure does, when a person ends it.
    hook = "/etc/apt/apt.conf.d/99ends"
    t.sources("bow", "step-2")
    ended = t.run(f"echo 'DPkg::Pre-Install-Pkgs {{ \"false\"; }};' >{hook}; apt-get -q -y full-upgrade", 900, check=False)
    t.check("apt ends after the checkpoint and before dpkg", ended.status != 0 and "checkpoint" in ended.output, ended)
    t.run("for i in $(seq 60); do grep -q 0 /sys/block/dm-0/bow/state && break; sleep 1; done")
    t.same("which is not kept", "0", t.output("cat /sys/block/dm-0/bow/state"))
    t.same("nor in the history", 0, len(t.history()))
    t.run(f"rm {hook}")
    # Not a unit too few.
    t.run("systemctl disable -q bow-commit.service")
    refused = t.run("bowctl run -- true", check=False)
    t.check("no update begins without what would keep it",
            refused.status != 0 and "Not enabled, and needed" in refused.output, refused)
    t.run("systemctl enable -q bow-commit.service")
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
    # One that is undone is not begun again each day.
    t.sources("bow", "step-4")
    t.run("apt-get -q -y full-upgrade", 900)
    t.machine.send("bowctl rollback --reboot")
    t.comes_back()
    refused = t.run("apt-get -q -y full-upgrade", 900, check=False)
    t.check("the same upgrade is refused after it was undone",
            refused.status != 0 and "the very same upgrade was rolled back" in refused.output, refused)
    t.same("no checkpoint is open", "0", t.output("cat /sys/block/dm-0/bow/state"))
    t.sources("bow", "step-5")
    done = t.run("apt-get -q -y full-upgrade", 900)
    t.check("another one is not", "the next boot tries the upgraded system" in done.output, done)
    t.run("bowctl commit bow-root", 300)
    t.finish()
