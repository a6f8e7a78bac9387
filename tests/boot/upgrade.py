# SPDX-License-Identifier: GPL-2.0
"""A newer kernel with its module and newer packages: tried, healthy, kept, and the space is back."""

START = "enabled"


def run(t):
    t.boot()
    before = int(t.output("cat /sys/block/dm-0/bow/free; :") or 0)
    t.tell(f"{before >> 20} MiB are free for backups before it")
    t.update("upgrade")
    t.booted(2400)
    t.new_system(t.setting.newer)
    t.same("the new version of the package", "version 2", t.output("machine-app"))
    # Past the page cache, which may be older than what dm-bow wrote.
    first = "dd if=/dev/vda2 iflag=direct bs=4096 count=1 status=none"
    t.same("no log of a checkpoint is left", "0", t.output(f"{first} | head -c 3 | grep -c BOW; :"))
    # The next update finds what the file system has free.
    t.run("apt-get clean && fstrim /")
    room = int(t.output("df -B1 --output=avail / | tail -n 1"))
    free = int(t.output("cat /sys/block/dm-0/bow/free"))
    t.check("what is free is known again", free > room * 0.9, f"{free} of {room} bytes")
    t.reboot()
    t.same("the new kernel runs after one more boot", t.setting.newer, t.release())
    t.same("the new version is still there", "version 2", t.output("machine-app"))
    t.finish()
