# SPDX-License-Identifier: GPL-2.0
"""The power is cut at random moments of update, first boot, commit, rollback: one of two systems is there, whole."""

import os
import random

from machine import Failure, Gone

START = "enabled"
LONG = True

# Three moments of each.
PHASES = ("update", "first boot", "commit", "rollback") * 3


def run(t):
    seed = int(os.environ.get("SEED", "0")) or random.randrange(1, 1 << 32)
    t.tell(f"SEED={seed}")
    draw = random.Random(seed)
    t.boot()
    version = 1
    for number, phase in enumerate(PHASES, 1):
        new = number + 1
        t.sources("bow", f"step-{new}")
        t.remember_files()
        before = len(t.history())
        moment = cut(t, phase, draw)
        t.tell(f"cut {number}: {phase}, {moment}")
        t.power_cut()
        t.machine.power_on()
        version = whole(t, number, version, new, phase)
        # Before the checkpoint there is nothing that could be in the history.
        if phase != "update":
            t.same("the history has one more", before + 1, len(t.history()))
            t.same("which ended as it did", "committed" if version == new else "rolled_back",
                   t.last_update().get("outcome"))
    t.finish()


def cut(t, phase, draw):
    """Goes up to the moment at which the power is to be cut. Returns what it was, in words."""
    bad = " && ln -sf /bin/false /usr/lib/bow/check/required.d/00-bad" if phase == "rollback" else ""
    t.machine.send(f"bowctl run -- sh -c 'apt-get -q -y full-upgrade{bad}'")
    if phase == "update":
        begin, most = None, 25
    elif phase == "first boot":
        begin, most = r"bow: the updated system is tried", 25
    elif phase == "commit":
        begin, most = r"bow: the updated system is tried", None
    else:
        begin, most = r"bow: rolling back", 10
    if begin:
        t.machine.expect(begin, 1200)
    if phase == "commit":
        # From when the checks begin; the commit comes within seconds.
        t.booted(900)
        t.machine.send("while [ ! -e /dev/mapper/bow-root ] || [ \"$(cat /sys/block/dm-0/bow/state)\" = 1 ] && "
                       "! pgrep -f 'bowctl root (health|commit)' >/dev/null; do :; done; echo @near >/dev/ttyS0")
        t.machine.expect("@near", 900)
        most = 6
    seconds = draw.uniform(0, most)
    t.machine.watch(seconds)
    return f"{seconds:.1f} s after " + (begin or "its begin")


def whole(t, number, version, new, phase):
    """Waits until the machine has come to rest. Checks that it is the old system or the new one, and returns the
    version."""
    settled = ("[ \"$(cat /sys/block/dm-0/bow/state)\" = 0 ] && [ ! -e /run/bow/try ] && [ ! -e /run/bow/open ] && "
               "[ ! -e /var/lib/bow/pending.json ]")
    end = f"for i in $(seq 300); do {settled} && exit 0; sleep 1; done; exit 1"
    for _ in range(6):
        t.booted(1800)
        try:
            result = t.run(f"({end})", 900, check=False)
            break
        except Gone:
            t.tell("it started again by itself")
    else:
        t.check(f"cut {number}, {phase}: the machine comes to rest", False, t.machine.tail())
        raise Failure("it starts again and again")
    t.check(f"cut {number}, {phase}: the machine comes to rest", result.status == 0, t.machine.tail())
    got = t.version("machine-app")
    t.grub_counts_nothing(f"cut {number}, {phase}: GRUB counts no more")
    # A rollback that has begun ends in the old one.
    allowed = (str(version),) if phase == "rollback" else (str(version), str(new))
    t.check(f"cut {number}, {phase}: version {got} is {' or '.join(allowed)}", got in allowed)
    t.same("its files are of one version", f"version {got}\n{got}",
           t.output(f"machine-app; cat /usr/share/machine-app/only-{got}"))
    t.same("and are whole", "", t.run("dpkg --audit; dpkg --verify machine-app", check=False).output)
    if got == str(version):
        t.compare_files("all files of the old system are what they were")
    return int(got)
