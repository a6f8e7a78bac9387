# SPDX-License-Identifier: GPL-2.0
"""While a checkpoint is open, what it needs cannot be removed; a person goes back by command and by the boot menu."""

START = "enabled"


def run(t):
    t.boot()
    t.run("sed -i 's/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=20/' /etc/default/grub.d/machine.cfg && update-grub && "
          "echo REBOOT=no >>/etc/bow.conf", 300)
    t.remember_files()
    t.run("bowctl run -- sh -c 'echo new >/root/new'", 900)
    for command in ("apt-get -q -y remove bowctl", "apt-get -q -y remove machine-modules dm-bow-modules-$(uname -r)",
                    "bowctl root disable", "bowctl run -- true"):
        refused = t.run(command, 300, check=False)
        t.check(f"refused: {command}", refused.status != 0 and "checkpoint" in refused.output, refused)
    t.same("and bowctl is still there", "0", t.output("bowctl --version >/dev/null; echo $?"))
    t.run("bowctl rollback", 300)
    t.machine.send("systemctl reboot")
    t.comes_back()
    t.same("what was new is gone", "1", t.output("test -e /root/new; echo $?"))
    t.compare_files("all files are what they were")

    t.tell("the entry of the boot menu")
    t.run("bowctl run -- sh -c 'echo new >/root/new'", 900)
    # Not the menu of the boots before.
    t.machine.console.seen = len(t.machine.console.text)
    t.machine.send("systemctl reboot")
    t.machine.expect("Roll back to the checkpoint", 600)
    # Ctrl-E: to the last entry, which is the one that rolls back. Firmware may take the sequence of the key End apart.
    t.machine.type("\x05\r")
    t.comes_back()
    t.same("what was new is gone", "1", t.output("test -e /root/new; echo $?"))
    t.finish()
