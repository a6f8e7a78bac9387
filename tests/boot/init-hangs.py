# SPDX-License-Identifier: GPL-2.0
"""The first process of the new system hangs: it is tried as often as it may, then the machine goes back."""

START = "enabled"


def run(t):
    t.boot()
    t.run("printf 'TRIES=2\\nDEADLINE=120\\n' >>/etc/bow.conf && update-initramfs -u", 600)
    t.update("init-hangs")
    t.machine.expect("machine-app: this init hangs", 1200)
    t.machine.expect("machine-app: this init hangs", 1200)
    t.comes_back()
    t.old_system("did not become healthy", boots=2)
    t.finish()
