# SPDX-License-Identifier: GPL-2.0
"""uevents.py: prints the variables DM_BOW_… of each uevent, one uevent a line, until it is killed."""

import os
import socket

NETLINK_KOBJECT_UEVENT = 15
KERNEL = 1  # The group of the kernel's own.

with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as events:
    events.bind((0, KERNEL))
    print(f"listening {os.getpid()}", flush=True)
    while True:
        words = events.recv(65536).decode(errors="replace").split("\0")
        ours = [word for word in words if word.startswith("DM_BOW_")]
        if ours:
            print(words[0], *ours, flush=True)
