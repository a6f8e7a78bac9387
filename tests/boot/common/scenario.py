# SPDX-License-Identifier: GPL-2.0
"""Defines what a scenario has at hand: a machine with a disk of its own, checks that are told in KTAP, and what
all scenarios do with a machine, such as comparing its files with those from before."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

from machine import Failure, Machine

# What each boot changes, of whichever system: logs, seeds, caches, what dm-bow itself remembers.
VOLATILE = (
    "./var/log", "./var/lib/bow", "./var/lib/systemd", "./var/cache", "./var/tmp", "./tmp", "./root/.bash_history",
    "./etc/resolv.conf", "./boot/grub/grubenv", "./var/lib/apt/lists", "./lost+found",
)


class Setting:
    """What all scenarios of a run share: where things are, and what is told of them."""

    def __init__(self, image, firmware, archive, accel, work, log, show):
        self.image = Path(image)
        self.firmware = firmware
        self.archive = archive
        self.accel = accel
        self.work = Path(work)
        self.log = Path(log)
        self.show = show
        record = dict(line.split("=", 1) for line in (self.image / "record").read_text().split("\n") if "=" in line)
        self.release = record["RELEASE"]
        self.newer = record["NEWER"]
        self.panics = record["PANICS"]
        self.root_start = int(record["ROOT_START"])
        self.root_size = int(record["ROOT_SIZE"])


class Scenario:
    """One scenario that runs: its machine, and the results so far."""

    def __init__(self, name, setting, start, output=None):
        """OUTPUT is the file that takes what the scenario tells, if others run beside it."""
        self.name = name
        self._file = output
        self.setting = setting
        self.folder = setting.work / name
        self.folder.mkdir(parents=True)
        self.results = 0
        self.failed = 0
        self.boots = 0
        self.cuts = 0
        for file in ("disk.img", "vars.fd"):
            copy(start / file, self.folder / file)
        notes = self.folder / "notes.img"
        subprocess.run(["truncate", "-s", "64M", notes], check=True)
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", notes], check=True)
        setting.log.mkdir(parents=True, exist_ok=True)
        log = setting.log / f"{name}.log"
        log.unlink(missing_ok=True)
        self.machine = Machine(
            self.folder / "disk.img", self.folder / "vars.fd", setting.firmware, log, setting.accel,
            disks={"archive": setting.archive, "notes": notes}, read_only=("archive",),
            echo=show if setting.show else None)

    # Results.

    def check(self, name, good, detail=""):
        """Tells whether NAME holds. A scenario goes on when something does not."""
        self.results += 1
        self.failed += not good
        self.print(f"{'ok' if good else 'not ok'} {self.results} - {name}")
        if not good and detail:
            self.print("\n".join(f"# {line}" for line in str(detail).split("\n")))
        return good

    def same(self, name, wanted, got):
        self.check(name, wanted == got, f"wanted: {wanted}\ngot:    {got}")

    def print(self, text):
        print(text, file=self._file, flush=True)

    def tell(self, text):
        self.print(f"# {text}")
        if self._file:
            print(f"# {self.name}: {text}", flush=True)

    def title(self, text):
        """Tells what comes now, for a person who looks on."""
        if self.setting.show:
            print(f"\n--- {text}\n", flush=True)
        else:
            self.tell(text)

    # The machine.

    def boot(self, limit=600):
        """Switches the machine on and waits for its shell."""
        self.machine.power_on()
        self.booted(limit)

    def booted(self, limit=600):
        """Waits for the shell of the next boot, with what packages come from and what is kept beside the disk."""
        start = time.monotonic()
        self.machine.wait_shell(limit)
        self.boots += 1
        self.tell(f"boot {self.boots}: a shell after {time.monotonic() - start:.0f} s")
        self.run("mkdir -p /run/notes && mount /dev/disk/by-id/virtio-notes /run/notes && "
                 "mount -o ro /dev/disk/by-id/virtio-archive /srv/archive")

    def run(self, command, limit=300, check=True):
        return self.machine.run(command, limit, check)

    def output(self, command, limit=300):
        return self.run(command, limit).output

    def reboot(self, limit=600):
        """Has the machine start again, and waits for its shell."""
        self.machine.send("systemctl reboot")
        self.booted(limit)

    def off(self):
        self.machine.send("systemctl poweroff")
        self.machine.wait_off()

    def finish(self):
        """Switches the machine off, on which no checkpoint is open, and checks its file system."""
        self.off()
        fsck = self.offline(["e2fsck", "-fn", "ROOT"])
        self.check("the file system is clean", fsck.returncode == 0, fsck.stdout + fsck.stderr)

    def power_cut(self):
        self.machine.power_cut()
        self.cuts += 1

    # What is installed.

    def sources(self, *names):
        """Sets the archives that apt knows of, by their names."""
        lines = "\n".join(f"deb [trusted=yes] file:/srv/archive {name}/" for name in names)
        self.run(f"echo '{lines}' >/etc/apt/sources.list.d/archive.list && apt-get -q -o Acquire::Languages=none update", 300)

    def version(self, package):
        return self.run(f"dpkg-query -W -f '${{Version}}' {package}", check=False).output

    def release(self):
        return self.output("uname -r")

    def offline(self, command):
        """Runs COMMAND, a list, on the root partition of a machine that is off: ROOT in it is the partition."""
        disk = f"{self.folder / 'disk.img'}?offset={self.setting.root_start * 512}"
        return subprocess.run([word.replace("ROOT", disk) for word in command], check=False, capture_output=True,
                              text=True)

    # Updates.

    def update(self, name, command="apt-get -q -y full-upgrade"):
        """Begins an update from archive NAME, as a user would. The machine starts again by itself after it."""
        self.sources("bow", name)
        self.remember_files()
        self.machine.send(f"bowctl run -- {command}")

    def comes_back(self, limit=2400):
        """Waits until the update is undone and the old system is up. Returns the reason that the console gave."""
        reason = self.machine.expect(r"bow: rolling back: (.*)\n", limit, "that the update is rolled back").group(1)
        self.machine.expect(r"bow: the old system is back; rebooting", 600)
        self.machine.shell.seen = len(self.machine.shell.text)
        self.booted()
        self.tell(f"rolled back: {reason.strip()}")
        return reason

    def old_system(self, reason, boots=None):
        """Checks that the system is the one from before the update, with a report that says REASON."""
        self.same("the old kernel runs", self.setting.release, self.release())
        self.same("the root is the mapped device", "/dev/mapper/bow-root", self.output("findmnt -no SOURCE /"))
        self.same("in state 0", "0", self.output("cat /sys/block/dm-0/bow/state"))
        self.same("the old version of the package", "version 1", self.output("machine-app"))
        self.compare_files("all files are what they were before the update, bit for bit")
        last = self.last_update()
        self.same("the history has it as rolled back", "rolled_back", last.get("outcome"))
        self.check("with the reason", re.search(reason, json.dumps(last)), f"{reason} is not in {last}")
        if boots is not None:
            self.same("and the number of boots of the new system", boots, last.get("boots"))

    def new_system(self, release=None):
        """Checks that the system is the updated one, kept, and ready for the next update."""
        if release:
            self.same("the new kernel runs", release, self.release())
        trial = "test -e /run/bow/try"
        ended = self.run(f"for i in $(seq 600); do {trial} || break; sleep 1; done; ! {trial}", 900, check=False)
        self.check("the trial ends", ended.status == 0, self.machine.tail())
        self.same("the root is the mapped device", "/dev/mapper/bow-root", self.output("findmnt -no SOURCE /"))
        self.same("in state 0", "0", self.output("cat /sys/block/dm-0/bow/state"))
        self.same("packages are whole", "", self.output("dpkg --audit"))
        self.same("the history has it as committed", "committed", self.last_update().get("outcome"))

    def history(self):
        """Returns the updates of the history, once the one under way is there."""
        history = self.run("for i in $(seq 120); do test -e /var/lib/bow/pending.json || break; sleep 1; done; "
                           "bowctl history --json", 200, check=False)
        try:
            return json.loads(history.output)
        except ValueError:
            return [{"outcome": f"not JSON: {history}"}]

    def last_update(self):
        """Returns the last update of the history."""
        return (self.history() or [{}])[-1]

    def grub_counts_nothing(self, name):
        """Checks that GRUB counts nothing, in a machine that is up."""
        # grub-common.service truncates the environment block, and writes it anew.
        self.run("systemctl is-system-running --wait >/dev/null || true")
        self.same(name, "", self.output("grub-editenv list | grep bow_tries || true"))

    def harm(self, name, reason, boots=None, limit=2400):
        """Is the whole of a scenario whose update does harm: the machine comes back by itself. Returns the reason that
        the console gave."""
        self.boot()
        self.update(name)
        told = self.comes_back(limit)
        self.old_system(reason, boots)
        self.finish()
        return told

    def slow_trial(self, step):
        """Boots, updates to a step and reboots into the trial, of which a check passes as soon as the scenario lets it."""
        self.boot()
        check = "/etc/bow/check/required.d/50-slow"
        script = "#!/bin/sh\nuntil [ -e /run/slow-check-passes ] || [ -e /etc/slow-check-passes ]; do sleep 1; done\n"
        self.run(f"mkdir -p $(dirname {check}) && printf '%s' '{script}' >{check} && chmod 755 {check} && "
                 "echo CHECK_SECONDS=600 >>/etc/bow.conf")
        self.update(step)
        self.booted(1200)
        self.same("the boot is on trial", "0", self.output("test -e /run/bow/try; echo $?"))

    def pass_slow_check(self):
        """Lets the slow check pass, and waits until the boot has come to its end, with all units of a trial."""
        self.run("touch /run/slow-check-passes && systemctl is-system-running --wait || :", 900)

    # Files.

    def remember_files(self):
        """Writes down what all files are, outside of the root file system, so that it outlives a power cut."""
        self.run(f"{manifest('/run/notes/before')} && sync /run/notes/before", 600)

    def compare_files(self, name, *more):
        """Checks that all files are what they were, bit for bit, with times, owners and modes. MORE are paths that
        may differ."""
        self.run(manifest("/run/notes/after"), 600)
        skip = "|".join(re.escape(path) for path in more)
        diff = self.run("diff /run/notes/before /run/notes/after" +
                        (f" | grep -E '^[<>]' | grep -vE ' \\.({skip})( |$)'" if more else ""), check=False)
        good = not diff.output if more else diff.status == 0
        self.check(name, good, "\n".join(diff.output.split("\n")[:40]))

    def close(self):
        self.machine.close()


def manifest(file):
    """Returns a command that writes a line for each file of the root file system, and one for its contents."""
    prune = " -o ".join(f"-path {path}" for path in VOLATILE)
    return (f"cd / && {{ find . -xdev \\( {prune} \\) -prune -o -not -type d -printf '%y %m %U:%G %s %T@ %p %l\\n' && "
            f"find . -xdev \\( {prune} \\) -prune -o -type d -printf '%y %m %U:%G %p\\n' && "
            f"find . -xdev \\( {prune} \\) -prune -o -type f -print0 | xargs -0 sha256sum | sed 's/  / /'; }} | "
            f"LC_ALL=C sort >{file} && test \"$(wc -l <{file})\" -gt 1000 && cd /root")


def copy(source, target):
    """Copies a file with its holes."""
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", source, target], check=True)


def show(line):
    print(line, flush=True)


__all__ = ["Failure", "Scenario", "Setting", "copy", "shutil"]
