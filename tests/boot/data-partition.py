# SPDX-License-Identifier: GPL-2.0
"""A file system for data gets its bow device at each boot: an update of it is kept, or rolled back at the next mount."""

START = "installed"

DEVICE = "/dev/disk/by-id/virtio-notes"
# As in Documentation/install.md.
UNIT = f"""[Unit]
Description=Bow device over the partition for data
DefaultDependencies=no
Requires=dev-disk-by\\x2did-virtio\\x2dnotes.device
After=dev-disk-by\\x2did-virtio\\x2dnotes.device

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/bowctl boot --name data {DEVICE}
"""
FSTAB = "/dev/mapper/data /data ext4 nofail,x-systemd.requires=bow-data.service 0 2"


def again(t, name, wanted):
    """Waits for a boot, and checks that the file has what is WANTED."""
    t.machine.wait_shell(600)
    # With nofail, the boot does not wait for it.
    t.run("systemctl start data.mount")
    t.same(name, wanted, t.output("findmnt -no SOURCE /data && cat /data/file"))
    t.same("no checkpoint is open", "0", t.output("cat /sys/block/dm-0/bow/state"))


def run(t):
    t.boot()
    t.run(f"umount /run/notes && mkdir /data && cat >/etc/systemd/system/bow-data.service <<'END'\n{UNIT}END\n"
          f"echo '{FSTAB}' >>/etc/fstab && systemctl daemon-reload && systemctl start data.mount && echo old >/data/file && sync")
    t.machine.send("systemctl reboot")
    again(t, "after a reboot it is on the bow device", "/dev/mapper/data\nold")

    t.run("systemd-run --working-directory=/data sleep infinity")
    failed = t.run("bowctl run --on data -- sh -c 'echo bad >/data/file; exit 1'", check=False)
    t.check("a failed update of what is in use", failed.status == 9 and "in use" in failed.output, failed)
    t.same("is not undone yet", "bad", t.output("cat /data/file"))
    t.machine.send("systemctl reboot")
    again(t, "at the next mount it is", "/dev/mapper/data\nold")

    t.run("bowctl run --on data -- sh -c 'echo good >/data/file'")
    t.machine.send("systemctl reboot")
    again(t, "an update that succeeds is kept", "/dev/mapper/data\ngood")

    t.machine.send("bowctl run --on data -- sh -c 'echo cut >/data/file; sync /data/file; echo it is >/dev/console; sleep 1000'")
    t.machine.expect("it is", 300, "that the update is under way")
    t.power_cut()
    t.machine.power_on()
    again(t, "after a power cut the old state is back", "/dev/mapper/data\ngood")
    t.finish()
