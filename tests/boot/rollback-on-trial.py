# SPDX-License-Identifier: GPL-2.0
"""In a boot on trial a rollback is asked for while a check runs: all checks pass, nothing is kept, the next boot goes back."""

START = "enabled"


def run(t):
    t.slow_trial("step-2")
    told = t.run("bowctl rollback --reason 'said in the trial'", 300)
    t.check("the rollback waits for a reboot", "Reboot when it suits" in told.output, told)
    t.pass_slow_check()
    t.same("the checks have passed", "active", t.output("systemctl is-active bow-health.service; :"))
    journal = t.output("journalctl -b -o cat -u bow-commit.service")
    t.check("bow-commit has left it", "not committed" in journal and "restored" in journal, journal)
    t.same("the checkpoint is open", "1", t.output("cat /sys/block/dm-0/bow/state"))
    t.machine.send("systemctl reboot")
    t.comes_back()
    t.old_system("said in the trial", 1)
    t.finish()
