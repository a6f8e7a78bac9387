# SPDX-License-Identifier: GPL-2.0
"""The unit of GRUB 2.14, which waits for the checks, leaves none of them out; checks that did not run have not passed."""

START = "enabled"

# As grub2-common.service has it: multi-user.target waits for it, and it for boot-complete.target.
UNIT = """[Unit]
Requires=boot-complete.target
After=boot-complete.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""


def run(t):
    t.boot()
    t.run(f"printf %s '{UNIT}' >/etc/systemd/system/grub2-common.service && systemctl enable grub2-common")
    t.update("step-2")
    t.booted(1200)
    t.new_system()
    cycles = "journalctl -b -o cat | grep -i 'ordering cycle'"
    t.same("no ordering cycle", "", t.run(cycles, check=False).output)
    t.same("the checks ran", "success", t.output("systemctl show -P Result bow-health"))
    t.reboot()
    t.run("systemctl is-system-running --wait || :", 600)
    t.same("nor is there one in the boot after it", "", t.run(cycles, check=False).output)
    t.same("with no checkpoint that unit runs", "active", t.run("systemctl is-active grub2-common", check=False).output)

    t.update("step-3", "sh -c 'apt-get -q -y full-upgrade && systemctl disable bow-health.service'")
    reason = t.comes_back()
    t.check("without checks the machine goes back, and says why", "did not run" in reason, reason)
    t.same("the version of before", "version 2", t.output("machine-app"))
    t.compare_files("all files are what they were before the update")
    t.finish()
