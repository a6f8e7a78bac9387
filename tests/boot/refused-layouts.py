# SPDX-License-Identifier: GPL-2.0
"""bowctl root enable refuses the layouts that are not supported, names each reason, and changes nothing."""

START = "installed"


def refused(t, name, reason):
    result = t.run("bowctl root enable", check=False)
    t.check(f"refused: {name}", result.status != 0 and reason in result.output, result)
    t.same("nothing was changed", "1", t.output("test -e /var/lib/bow/root.conf; echo $?"))


def inside(t, name, source, reason):
    """Checks the reason for a root file system that is mounted from SOURCE, with little more in it than bowctl."""
    t.run(f"mount {source} /mnt && mkdir -p /mnt/proc /mnt/sys /mnt/dev /mnt/usr/sbin /mnt/var/lib && "
          "cp /usr/sbin/bowctl /mnt/usr/sbin/ && for dir in proc sys dev; do mount --bind /$dir /mnt/$dir; done")
    result = t.run("chroot /mnt /usr/sbin/bowctl root enable", check=False)
    t.check(f"refused: {name}", result.status != 0 and reason in result.output, result)
    t.run("umount /mnt/proc /mnt/sys /mnt/dev /mnt")


def run(t):
    t.boot()
    t.run("mount -t tmpfs tmpfs /mnt && cp -a /var/lib/dpkg/. /mnt/ && mount --bind /mnt /var/lib/dpkg && umount /mnt")
    refused(t, "the package database on another file system", "/var/lib/dpkg is on a file system of its own")
    t.run("umount /var/lib/dpkg")

    t.run("mount -t tmpfs tmpfs /boot")
    refused(t, "/boot on another file system", "/boot is on a file system of its own")
    t.run("umount /boot")

    t.run("mkdir -p /boot/efi/loader/entries && touch /boot/efi/loader/entries/debian.conf")
    refused(t, "a boot loader that has its kernels on the EFI system partition", "loader/entries/debian.conf is for")
    t.run("rm -r /boot/efi/loader")

    t.run("fallocate -l 16M /swap && chmod 600 /swap && mkswap /swap && swapon /swap")
    refused(t, "a swap file", "swap file")
    t.run("swapoff /swap && rm /swap")

    release = t.release()
    t.run(f"mv /lib/modules/{release}/updates /root/updates && depmod")
    refused(t, "no module for the kernel", "no module")
    t.run(f"mv /root/updates /lib/modules/{release}/updates && depmod")

    for kind, reason in (("btrfs", "the root file system is btrfs"), ("xfs", "/boot is on an XFS")):
        t.run(f"cp --sparse=always /srv/archive/layouts/{kind} /var/tmp/image")
        inside(t, f"a root on {kind}", "-o loop /var/tmp/image", reason)
    t.run("truncate -s 64M /var/tmp/image && mkfs.ext4 -q -F /var/tmp/image && losetup /dev/loop7 /var/tmp/image")
    for layer, uuid in (("LVM", "LVM-0b0e"), ("LUKS", "CRYPT-LUKS2-0b0e")):
        t.run(f"echo \"0 $(blockdev --getsz /dev/loop7) linear /dev/loop7 0\" | dmsetup create layer --uuid {uuid}")
        inside(t, f"a root on {layer}", "/dev/mapper/layer", f"the root file system is on {layer}")
        t.run("dmsetup remove layer")
    t.run("losetup -d /dev/loop7 && rm /var/tmp/image")

    t.off()
    tune = t.offline(["sh", "-c", "e2fsck -fy 'ROOT'; tune2fs -O ^metadata_csum 'ROOT'"])
    t.check("an ext4 without checksums of metadata", tune.returncode == 0, tune.stdout + tune.stderr)
    t.boot()
    refused(t, "an ext4 without checksums of metadata", "no checksums of metadata")
    t.off()
