# SPDX-License-Identifier: GPL-2.0
"""Drives a virtual machine over its two serial lines.

The first line is the machine's console, from the firmware to the login prompt: what appears there is waited for,
and what a person would type there is typed. The second has a shell for programs (serial-shell.service), for
commands whose output and status are wanted. Runs inside the build root.
"""

import ctypes
import os
import re
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
ESCAPES = re.compile(r"\x1b(\[[0-9;?=]*[A-Za-z]|\][^\x07\x1b]*(\x07|\x1b\\)|[()][0-9A-B]|[=>78cM])")


class Failure(Exception):
    """Something did not happen, or not as it should have."""


class Gone(Failure):
    """The machine was switched off, or started again, while a command was running."""


class Result:
    """What a command printed, and the status it ended with."""

    def __init__(self, command, status, output):
        self.command = command
        self.status = status
        self.output = output

    def __str__(self):
        return f"'{self.command}' ended with status {self.status}\n{self.output}"


class Line:
    """One serial line: all that was read from it, and how far it was looked at."""

    def __init__(self, name, log, echo):
        self.name = name
        self.text = ""
        self.seen = 0
        self._log = log
        self._echo = echo
        self._rest = ""

    def add(self, data):
        text = data.decode(errors="replace").replace("\r", "")
        self.text += text
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            line = ESCAPES.sub("", line).rstrip()
            if line:
                self._log(f"{self.name}| {line}")
                if self._echo:
                    self._echo(line)

    def find(self, pattern):
        """Returns the match of PATTERN in what was not looked at yet, and has looked at all up to its end. A line may
        have come in part: a pattern that wants the whole of it ends with a newline, not with $."""
        match = re.compile(pattern, re.MULTILINE).search(self.text, self.seen)
        if match:
            self.seen = match.end()
        return match


def die_with_parent():
    """Makes the kernel end this process when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Machine:
    """A virtual machine. DISKS are more disks, /dev/disk/by-id/virtio-NAME in the machine, by name. Those named in
    READ_ONLY may be shared with other machines.

    It has one CPU: where two are emulated and the host is busy, a timer of one of them was lost, and the boot hung.
    """

    def __init__(self, disk, variables, firmware, log, accel="tcg", memory=1024, disks=None, read_only=(),
                 echo=None):
        self.disk = disk
        self._variables = variables
        self._firmware = firmware
        self._accel = accel
        self._memory = memory
        self._disks = disks or {}
        self._read_only = read_only
        self._file = open(log, "a", buffering=1, encoding="utf-8")
        self._echo = echo
        self._start = time.monotonic()
        self._qemu = None
        self._count = 0
        self._bytes = 0

    def note(self, text):
        self._file.write(f"[{time.monotonic() - self._start:7.1f}] {text}\n")

    # Disks, while the machine is off.

    def attach(self, name, file):
        """Adds a disk, /dev/disk/by-id/virtio-NAME in the machine."""
        assert self._qemu is None
        self._disks[name] = file

    def detach(self, name):
        """Takes a disk away."""
        assert self._qemu is None
        del self._disks[name]

    # Power.

    def power_on(self):
        """Switches the machine on. Returns at once."""
        assert self._qemu is None
        shell, theirs = socket.socketpair()
        self._shell_port = shell
        self.console = Line("console", self.note, self._echo)
        self.shell = Line("shell", self.note, None)
        self.note("-- power on")
        self._qemu = subprocess.Popen(
            self._command(theirs.fileno()), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()], preexec_fn=die_with_parent, bufsize=0)
        theirs.close()
        self._ports = selectors.DefaultSelector()
        self._ports.register(self._qemu.stdout, selectors.EVENT_READ, self.console)
        self._ports.register(shell, selectors.EVENT_READ, self.shell)

    def _command(self, shell):
        if self._accel == "kvm":
            cpu = ["-accel", "kvm", "-cpu", "host"]
        else:
            # Without virtualization in the guest, for which it would load modules.
            cpu = ["-accel", "tcg,thread=multi", "-cpu", "max,svm=off"]
        # The host's page cache outlives QEMU, so a flush need go no further.
        cache = "cache=writeback,discard=unmap,detect-zeroes=off"
        command = [
            "qemu-system-x86_64", "-M", "q35,smm=off", *cpu, "-smp", "1", "-m", str(self._memory),
            "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none",
            "-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={comma(self._firmware)}",
            "-drive", f"if=pflash,format=raw,unit=1,file={comma(self._variables)}",
            "-drive", f"if=none,id=root,format=raw,{cache},file={comma(self.disk)}",
            "-device", "virtio-blk-pci,drive=root,bootindex=1",
            "-device", "virtio-rng-pci",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-chardev", f"socket,id=shell,fd={shell}", "-serial", "chardev:shell",
        ]
        for name, file in self._disks.items():
            command += [
                "-drive", f"if=none,id={name},format=raw,cache=writeback,file={comma(file)}"
                          + (",readonly=on" if name in self._read_only else ""),
                "-device", f"virtio-blk-pci,drive={name},serial={name}",
            ]
        return command

    def power_cut(self):
        """Takes the power away, at once."""
        self.note("-- power cut")
        self._end()

    def close(self):
        if self._qemu:
            self._end()
        self._file.close()

    def wait_off(self, limit=300):
        """Waits until the machine has switched itself off."""
        self._wait(lambda: self._qemu.poll() is not None, limit, "the machine does not switch itself off")
        self._end()

    def _end(self):
        self._qemu.kill()
        self._qemu.wait()
        self._shell_port.close()
        self._qemu.stdout.close()
        self._ports.close()
        self._qemu = None

    # The two lines.

    def _wait(self, done, limit, message):
        end = time.monotonic() + limit
        while True:
            value = done()
            if value:
                return value
            left = end - time.monotonic()
            if left <= 0:
                raise Failure(f"{message} (within {limit} s)\n{self.tail()}")
            if not self._ports.get_map():
                self._qemu.wait()
                value = done()
                if value:
                    return value
                raise Gone(f"{message}: the machine was switched off\n{self.tail()}")
            for key, _ in self._ports.select(min(left, 5)):
                data = os.read(key.fd, 65536)
                if data:
                    self._bytes += len(data)
                    key.data.add(data)
                else:
                    self._ports.unregister(key.fileobj)

    def tail(self, lines=25):
        """Returns the end of what the console said, for a message."""
        text = ESCAPES.sub("", self.console.text).strip("\n").split("\n")[-lines:]
        return "\n".join(f"  console| {line}" for line in text)

    def expect(self, pattern, limit=300, what=None):
        """Waits until the console says PATTERN, after what was waited for before. Returns the match."""
        return self._wait(lambda: self.console.find(pattern), limit, f"the console does not say {what or pattern}")

    def watch(self, seconds):
        """Takes in what the machine says for a while."""
        end = time.monotonic() + seconds
        try:
            self._wait(lambda: time.monotonic() >= end, seconds + 10, "")
        except Gone:
            pass

    def type(self, text):
        """Types TEXT on the console."""
        self.note(f"-- typed: {text!r}")
        os.write(self._qemu.stdin.fileno(), text.encode())

    def wait_shell(self, limit=600):
        """Waits until a system is up far enough to have its shell on the second line."""
        self._wait(lambda: self.shell.find(r"^@shell\n"), limit, "no shell on the second serial line")

    def send(self, command):
        """Has the shell run COMMAND, and waits for nothing. Returns the command's number."""
        self._count += 1
        self.note(f"# {command}")
        if self._echo:
            self._echo(f"# {command}")
        # On a line of its own, whatever the output ends with.
        line = f"eval {shlex.quote(command)} </dev/null 2>&1; printf '\\n@done {self._count} %s\\n' $?\n"
        self._shell_port.sendall(line.encode())
        return self._count

    def run(self, command, limit=300, check=True):
        """Has the shell run COMMAND, to its end. A status other than 0 is a failure, unless CHECK is false."""
        return self.ended(self.send(command), command, limit, check)

    def ended(self, number, command, limit=300, check=True):
        """Waits for the end of command NUMBER, which `send` returned."""
        start = self.shell.seen
        match = self._wait(lambda: self.shell.find(rf"^@done {number} (\d+)\n|^@shell\n"), limit,
                           f"'{command}' does not end")
        if match.group(1) is None:
            self.shell.seen = match.start()
            raise Gone(f"'{command}' was cut off: the machine started again")
        result = Result(command, int(match.group(1)), self.shell.text[start:match.start()].strip("\n"))
        if self._echo and result.output:
            self._echo(result.output)
        if check and result.status:
            raise Failure(str(result))
        return result


def comma(path):
    """Returns PATH as an option of QEMU's has it."""
    return str(path).replace(",", ",,")
