# SPDX-License-Identifier: GPL-2.0
"""Ten updates in a row, every third of them bad, without anything being installed anew in between."""

START = "enabled"
LONG = True


def run(t):
    t.boot()
    t.run("cp /usr/bin/machine-app /root/kept && rm /root/kept")
    good = "1"
    for step in range(2, 12):
        t.tell(f"update {step - 1}")
        t.sources("bow", f"step-{step}")
        bad = step % 3 == 0
        # A bad one passes its installation, and fails a check.
        check = " && ln -s /bin/false /etc/bow/check/required.d/00-bad" if bad else ""
        t.machine.send(f"bowctl run -- sh -c 'apt-get -q -y full-upgrade{check}'")
        if bad:
            reason = t.comes_back()
            t.check(f"update {step - 1} is undone for its check", "00-bad" in reason, reason)
        else:
            t.booted(1200)
            t.new_system()
            good = str(step)
        t.same(f"after update {step - 1} the version is right", f"version {good}", t.output("machine-app"))
        t.same("of the package too", good, t.version("machine-app"))
    history = t.output("bowctl history")
    t.tell(history)
    t.same("the history has all", 10, len(t.history()))
    t.same("packages are whole", "", t.output("dpkg --audit"))
    t.finish()
