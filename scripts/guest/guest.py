#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Runs QEMU for scripts/guest/run, inside the build root.

The kernel's console (first serial port) goes to the log, what the command
prints (second serial port) to the log and to standard output, as it comes.
Exits with the command's status, or with one of the codes below.
"""

import argparse
import ctypes
import os
import re
import selectors
import signal
import subprocess
import sys
import time

TIMED_OUT = 124     # the guest took longer than allowed and was killed
DIED = 125          # it ended, or stopped for good, without saying a status
POWER_CUT = 0       # it was killed because --kill-when matched, as asked

STATUS = re.compile(rb"dm-bow guest: exit status (\d+)")
# Where nothing more can come: the wait for the time-out is saved.
DEAD = re.compile(rb"Kernel panic - not syncing|KVM internal error|"
                  rb"end Kernel panic|---\[ end Kernel panic")
# A guest without ACPI says so, and then cannot switch itself off.
OFF = re.compile(rb"reboot: (Power down|System halted)")
PR_SET_PDEATHSIG = 1


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--timeout", type=float, required=True)
    parser.add_argument("--stall", type=float, default=1e9)
    parser.add_argument("--log", required=True)
    parser.add_argument("--kill-when")
    parser.add_argument("--quiet", action="store_true")
    parser.add_argument("qemu", nargs=argparse.REMAINDER)
    return parser.parse_args()


def die_with_parent():
    """A killed runner must not leave a guest behind."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Port:
    """One serial port: its bytes, cut into lines."""

    def __init__(self, fd):
        self.fd = fd
        self.rest = b""

    def lines(self, data):
        parts = (self.rest + data).split(b"\n")
        self.rest = parts.pop()
        return [part.rstrip(b"\r") + b"\n" for part in parts]


def main():
    args = arguments()
    kill_when = re.compile(args.kill_when.encode()) if args.kill_when else None
    output_read, output_write = os.pipe()
    command = [a.replace("@OUTPUT@", str(output_write)) for a in args.qemu]
    log = open(args.log, "ab", buffering=0)
    start = time.monotonic()
    qemu = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, pass_fds=[output_write],
        preexec_fn=die_with_parent)
    os.close(output_write)

    console = Port(qemu.stdout.fileno())
    output = Port(output_read)
    ports = selectors.DefaultSelector()
    for port in (console, output):
        ports.register(port.fd, selectors.EVENT_READ, port)

    # Ctrl-C and a `kill` end the guest; the finally below does it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

    status = None
    deadline = start + args.timeout
    dead = False
    heard = start
    try:
        while ports.get_map():
            left = min(deadline, heard + args.stall) - time.monotonic()
            if left <= 0:
                if status is not None:
                    return status
                if dead:
                    return DIED
                if time.monotonic() < deadline:
                    print(f"dm-bow: the guest was silent for {args.stall:.0f} s and was killed",
                          file=sys.stderr)
                else:
                    print(f"dm-bow: the guest took more than {args.timeout:.0f} s and was killed",
                          file=sys.stderr)
                return TIMED_OUT
            for key, _ in ports.select(left):
                port = key.data
                data = os.read(port.fd, 65536)
                heard = time.monotonic()
                if not data:
                    ports.unregister(port.fd)
                    if port.rest:
                        log.write(port.rest + b"\n")
                    continue
                for line in port.lines(data):
                    log.write(line)
                    if port is output and not args.quiet:
                        sys.stdout.buffer.write(line)
                        sys.stdout.buffer.flush()
                    if kill_when and kill_when.search(line):
                        qemu.kill()
                        log.write(b"dm-bow guest: power cut by the host\n")
                        return POWER_CUT
                    if port is console:
                        found = STATUS.search(line)
                        if found:
                            status = int(found.group(1))
                            # Power-off follows; do not wait for it for long.
                            deadline = min(deadline, time.monotonic() + 10)
                        elif status is not None and OFF.search(line):
                            deadline = min(deadline, time.monotonic() + 1)
                        elif DEAD.search(line) and not dead:
                            # Let the rest of the report arrive.
                            dead = True
                            deadline = min(deadline, time.monotonic() + 3)
    finally:
        qemu.kill()
        qemu.wait()
        log.write(b"dm-bow guest: ended after %.1f s\n" % (time.monotonic() - start))
    return DIED if status is None else status


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.exit(code)
