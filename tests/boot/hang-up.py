# SPDX-License-Identifier: GPL-2.0
"""The session in which the update was begun is lost, as that of ssh may be: the machine goes back, and says why."""

START = "enabled"


def run(t):
    t.boot()
    t.sources("bow", "step-2")
    t.remember_files()
    # To all of the session, bowctl itself too.
    t.machine.send("setsid bowctl run -- sh -c 'apt-get -q -y full-upgrade; kill -HUP 0; sleep 1000'")
    t.comes_back()
    t.old_system(r"apt-get -q -y full-upgrade; .*signal: 1")
    t.finish()
