# SPDX-License-Identifier: GPL-2.0
"""Tells the whole story (make demo-root): installed with apt, enabled, an update that is kept, one that deletes /usr/lib and is undone."""

START = "machine"


def run(t):
    t.title("A stock Debian")
    t.boot()
    t.run("cat /etc/debian_version; uname -r; findmnt /; df -h /")
    t.title("Three commands: install, enable, reboot")
    # An initramfs with what this machine needs: the other kind takes two minutes to make where the CPU is emulated.
    t.run("echo MODULES=dep >/etc/initramfs-tools/conf.d/driver-policy")
    t.sources("bow")
    t.run("apt-get -q -y install dm-bow-root machine-app machine-modules", 1200)
    t.run("bowctl root enable", 900)
    t.reboot()
    t.run("findmnt /; bowctl root status", check=False)

    t.title("An update of kernel and packages, which is healthy, and kept")
    t.update("upgrade")
    t.booted(2400)
    t.new_system(t.setting.newer)
    t.run("bowctl history; uname -r; machine-app")

    t.title("An update that deletes /usr/lib")
    t.update("deletes-usr-lib")
    t.comes_back()
    t.run("bowctl history; uname -r; machine-app")
    t.same("the version of before", "version 2", t.output("machine-app"))
    t.compare_files("all files are what they were before the update, bit for bit")
    t.off()
