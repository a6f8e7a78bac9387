// SPDX-License-Identifier: GPL-2.0

//! Obstacles to dm-bow under the root file system.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;

use super::{partition, programs, rescue};
use crate::live::Live;
use crate::mount::{self, Mount};
use crate::superblock::Superblock;
use crate::users;

/// Facts about the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Type of the root file system.
    pub kind: String,
    /// Layer that the root file system is on, if it is not a partition: `LVM`, for instance.
    pub layer: Option<String>,
    /// PARTUUID of the partition.
    pub partition: Option<String>,
    /// Node of the partition.
    pub node: Option<String>,
    /// Directories that are part of the system and on another file system, with its type.
    pub elsewhere: Vec<String>,
    /// /boot is on a file system of its own.
    pub own_boot: bool,
    /// Boot entry or kernel on the EFI system partition that a boot loader other than GRUB starts.
    pub boot_entry: Option<String>,
    /// The superblock is of an ext4 with checksums of metadata.
    pub metadata_csum: bool,
    /// The root file system has its journal or log on another device.
    pub external_journal: bool,
    /// The machine was started by UEFI.
    pub uefi: bool,
    /// GRUB is installed by Debian's grub-cloud.
    pub grub_cloud: bool,
    /// Swap files on the root file system.
    pub swap_files: Vec<String>,
    /// There is a module for the kernel that runs.
    pub module: bool,
    /// There is a program that makes an initramfs, and bowctl's hook for it.
    pub initramfs: bool,
}

/// Weight of an obstacle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// dm-bow cannot be under this root file system.
    Refused,
    /// Not tested enough: with --force.
    Experimental,
    /// To be known.
    Note,
}

/// Something that is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Obstacle {
    /// Name for programs.
    pub name: &'static str,
    /// Its weight.
    pub weight: Weight,
    /// A sentence that says what it is, and why it is in the way.
    pub reason: String,
}

impl Facts {
    /// Finds out about this machine. Returns `None` if the root file system is not found among the mounts.
    pub fn find() -> Option<Self> {
        let mounts = mount::all();
        let at = |point: &str| -> Option<&Mount> {
            mounts
                .iter()
                .filter(|mount| mount.process.is_none())
                .rfind(|mount| mount.point == Path::new(point))
        };
        let root = at("/")?;
        let number = root.source_number().unwrap_or_else(|| root.number.clone());
        let base = users::node(&number)
            .and_then(|node| Live::find(&node))
            .and_then(|live| users::number(&live.underlying()?))
            .unwrap_or(number);
        let superblock = superblock(&base);
        let kind = root.kind.clone();
        let elsewhere = [
            "/usr",
            "/etc",
            "/var",
            "/var/lib",
            "/var/lib/dpkg",
            "/var/lib/bow",
        ]
        .into_iter()
        .filter(|point| at(point).is_some())
        .map(str::to_owned)
        .collect();

        Some(Self {
            layer: layer(&base),
            partition: partition::uuid(&base),
            node: users::node(&base).map(|node| node.display().to_string()),
            elsewhere,
            own_boot: at("/boot").is_some(),
            boot_entry: rescue::MOUNTS
                .iter()
                .find_map(|mount| boot_entry(Path::new(mount))),
            metadata_csum: kind == "ext4"
                && superblock.as_ref().is_some_and(Superblock::metadata_csum),
            external_journal: root.option("logdev").is_some()
                || root.option("rtdev").is_some()
                || superblock.is_some_and(|superblock| superblock.journal_device().is_some()),
            uefi: is_uefi(),
            grub_cloud: Path::new("/etc/grub.d/enable_cloud").exists(),
            swap_files: swap_files(&root.number),
            module: Path::new("/sys/module/dm_bow").exists()
                || programs::output("modinfo", &["dm-bow"]).is_ok(),
            initramfs: has_initramfs_hook(),
            kind,
        })
    }

    /// Returns what is in the way, the worst first.
    pub fn obstacles(&self) -> Vec<Obstacle> {
        let mut found = Vec::new();
        let mut add = |name, weight, reason: String| {
            found.push(Obstacle {
                name,
                weight,
                reason,
            });
        };

        match self.kind.as_str() {
            "ext4" | "xfs" => {}
            "btrfs" => add(
                "file_system",
                Weight::Refused,
                "the root file system is btrfs: the log does not hide it, so that the partition and the bow device \
                 would be two devices of one file system. Its own snapshots do the same job."
                    .to_owned(),
            ),
            "f2fs" => add(
                "file_system",
                Weight::Refused,
                "the root file system is F2FS, which must not be rolled back: it finds files in free space."
                    .to_owned(),
            ),
            kind => add(
                "file_system",
                Weight::Refused,
                format!("the root file system is {kind}: ext4 and XFS are supported."),
            ),
        }
        if let Some(layer) = &self.layer {
            add(
                "layer",
                Weight::Refused,
                format!(
                    "the root file system is on {layer}: the initramfs lays bow over an ordinary partition only, so far."
                ),
            );
        } else if self.partition.is_none() {
            add(
                "partition",
                Weight::Refused,
                "the root file system is on no partition with a PARTUUID of its own, by which the initramfs would find \
                 it: the disk has no signature, or a copy of the disk is connected."
                    .to_owned(),
            );
        }
        for point in &self.elsewhere {
            add(
                "elsewhere",
                Weight::Refused,
                format!(
                    "{point} is on a file system of its own: an update changes both, and a rollback of one of them \
                     leaves a mixture."
                ),
            );
        }
        if self.own_boot {
            add(
                "boot",
                Weight::Refused,
                "/boot is on a file system of its own, which is not rolled back with the root file system: the old \
                 system would be left without its kernel. Not supported yet."
                    .to_owned(),
            );
        } else if self.kind == "ext4" && !self.metadata_csum {
            add(
                "metadata_csum",
                Weight::Refused,
                "the ext4 has no checksums of metadata: the boot loader could not read /boot while a checkpoint is \
                 open, or the partition would not be hidden from others. With the file system unmounted, \
                 `tune2fs -O metadata_csum` adds them."
                    .to_owned(),
            );
        } else if self.kind == "xfs" {
            add(
                "boot",
                Weight::Refused,
                "/boot is on an XFS: its superblock is where the log is, so that the boot loader could not read it \
                 while a checkpoint is open."
                    .to_owned(),
            );
        }
        if let Some(entry) = &self.boot_entry {
            add(
                "boot",
                Weight::Refused,
                format!(
                    "{entry} is for a boot loader that takes its kernel from the EFI system partition (systemd-boot, \
                     for instance), which is not rolled back: the old system would be booted with the new kernel."
                ),
            );
        }
        if self.external_journal {
            add(
                "journal",
                Weight::Refused,
                "the root file system has its journal on another device, which is not rolled back with it."
                    .to_owned(),
            );
        }
        if !self.initramfs {
            add(
                "initramfs",
                Weight::Refused,
                "there is neither initramfs-tools nor dracut with the hook of bow: install the package dm-bow-root."
                    .to_owned(),
            );
        }
        if !self.module {
            add(
                "module",
                Weight::Refused,
                "there is no module dm-bow for the kernel that runs: install dm-bow-dkms, or the package with the \
                 module for this kernel."
                    .to_owned(),
            );
        }
        if !self.uefi {
            add(
                "bios",
                Weight::Experimental,
                "the machine was started by BIOS: `grub-install` would leave out what GRUB needs to find a partition \
                 below a bow device. Do not run it while the bow device is in use; packages that do are refused: upgrade \
                 them with `bow=off`."
                    .to_owned(),
            );
        }
        if self.grub_cloud {
            add(
                "grub_cloud",
                Weight::Experimental,
                "GRUB is installed by grub-cloud, as in Debian's images for clouds, whenever its packages change. With a \
                 bow device in use, that fails, and dpkg leaves the package unconfigured. Upgrade GRUB with `bow=off`, \
                 or remove the package grub-cloud-*."
                    .to_owned(),
            );
        }
        for file in &self.swap_files {
            add(
                "swap_file",
                Weight::Refused,
                format!(
                    "{file} is a swap file on the root file system: what is swapped would be backed up, and take the \
                     space for backups. Use a swap partition, or zram."
                ),
            );
        }
        found.sort_by_key(|obstacle| match obstacle.weight {
            Weight::Refused => 0,
            Weight::Experimental => 1,
            Weight::Note => 2,
        });
        found
    }
}

/// Returns whether the machine was started by UEFI.
pub fn is_uefi() -> bool {
    Path::new("/sys/firmware/efi").exists()
}

/// Returns an entry of the boot loader specification, or a unified kernel image, on an EFI system partition.
fn boot_entry(mount: &Path) -> Option<String> {
    [("loader/entries", "conf"), ("EFI/Linux", "efi")]
        .into_iter()
        .flat_map(|(folder, end)| {
            users::entries(&mount.join(folder))
                .filter(move |path| path.extension().is_some_and(|found| found == end))
        })
        .map(|path| path.display().to_string())
        .next()
}

/// Returns what the block device of a number is, or is a partition of, if it is no partition of a disk.
fn layer(number: &str) -> Option<String> {
    let mut folder = users::sysfs(number);
    let is_partition = folder.join("partition").exists();

    if is_partition {
        // The link leads to a folder in that of the disk.
        folder = folder.canonicalize().ok()?.parent()?.to_owned();
    }
    let uuid = users::read(&folder.join("dm/uuid")).unwrap_or_default();
    let name = users::name(number);

    Some(if uuid.starts_with("LVM-") {
        format!("LVM ({name})")
    } else if uuid.starts_with("CRYPT-") {
        format!("LUKS ({name})")
    } else if folder.join("md").exists() {
        format!("md ({name})")
    } else if folder.join("dm").exists() {
        format!("device mapper ({name})")
    } else if folder.join("loop").exists() {
        format!("a loop device ({name})")
    } else if is_partition {
        return None;
    } else if folder.exists() {
        format!("a whole disk ({name})")
    } else {
        "no block device".to_owned()
    })
}

/// Reads the superblock of the ext4 on the block device of a number. The page cache has it also where the log hides
/// it, since it is mounted.
pub(super) fn superblock(number: &str) -> Option<Superblock> {
    let read = || -> io::Result<Vec<u8>> {
        let node = users::node(number).ok_or(io::ErrorKind::NotFound)?;
        let mut first = vec![0; Superblock::OFFSET + Superblock::LEN];

        fs::File::open(node)?.read_exact(&mut first)?;
        Ok(first)
    };

    Superblock::parse(&read().ok()?)
}

/// Returns the swap files on the file system of a device number.
fn swap_files(number: &str) -> Vec<String> {
    use rustix::fs::{major, minor};
    use std::os::unix::fs::MetadataExt;

    fs::read_to_string("/proc/swaps")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|path| {
            fs::metadata(path).is_ok_and(|file| {
                file.is_file() && format!("{}:{}", major(file.dev()), minor(file.dev())) == number
            })
        })
        .map(str::to_owned)
        .collect()
}

fn has_initramfs_hook() -> bool {
    let tools = Path::new("/usr/share/initramfs-tools/hooks/bow").exists()
        && programs::has("update-initramfs");
    let dracut = Path::new("/usr/lib/dracut/modules.d/90bow/module-setup.sh").exists()
        && programs::has("dracut");

    tools || dracut
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout that is supported: ext4 with checksums of metadata on a partition, /boot on it, UEFI.
    fn good() -> Facts {
        Facts {
            kind: "ext4".to_owned(),
            layer: None,
            partition: Some("0a-1".to_owned()),
            node: Some("/dev/vda2".to_owned()),
            elsewhere: Vec::new(),
            own_boot: false,
            boot_entry: None,
            metadata_csum: true,
            external_journal: false,
            uefi: true,
            grub_cloud: false,
            swap_files: Vec::new(),
            module: true,
            initramfs: true,
        }
    }

    fn names(facts: &Facts, weight: Weight) -> Vec<&'static str> {
        facts
            .obstacles()
            .into_iter()
            .filter(|obstacle| obstacle.weight == weight)
            .map(|obstacle| obstacle.name)
            .collect()
    }

    #[test]
    fn nothing_is_in_the_way_of_a_supported_layout() {
        assert_eq!(good().obstacles(), []);
    }

    #[test]
    fn each_thing_in_the_way_is_named() {
        type Change = fn(&mut Facts);
        let cases: [(&str, Change); 13] = [
            ("file_system", |facts| facts.kind = "btrfs".to_owned()),
            ("file_system", |facts| facts.kind = "f2fs".to_owned()),
            ("file_system", |facts| facts.kind = "overlay".to_owned()),
            ("layer", |facts| facts.layer = Some("LVM (a-b)".to_owned())),
            ("partition", |facts| facts.partition = None),
            ("elsewhere", |facts| {
                facts.elsewhere = vec!["/usr".to_owned()]
            }),
            ("boot", |facts| facts.own_boot = true),
            ("boot", |facts| {
                facts.boot_entry = Some("/efi/loader/entries/debian.conf".to_owned())
            }),
            ("metadata_csum", |facts| facts.metadata_csum = false),
            ("boot", |facts| facts.kind = "xfs".to_owned()),
            ("journal", |facts| facts.external_journal = true),
            ("module", |facts| facts.module = false),
            ("swap_file", |facts| {
                facts.swap_files = vec!["/swap".to_owned()]
            }),
        ];

        for (name, change) in cases {
            let mut facts = good();

            change(&mut facts);
            assert_eq!(names(&facts, Weight::Refused), [name]);
        }
        let mut facts = good();
        facts.initramfs = false;
        assert_eq!(names(&facts, Weight::Refused), ["initramfs"]);
    }

    #[test]
    fn entries_of_other_boot_loaders_are_found() {
        for (folder, name) in [("loader/entries", "d.conf"), ("EFI/Linux", "d.efi")] {
            let mount = tempfile::tempdir().unwrap();
            let folder = mount.path().join(folder);

            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("README"), "").unwrap();
            assert_eq!(boot_entry(mount.path()), None);
            fs::write(folder.join(name), "").unwrap();
            assert!(boot_entry(mount.path()).unwrap().ends_with(name));
        }
    }

    #[test]
    fn bios_and_grub_cloud_are_experimental() {
        let facts = Facts {
            uefi: false,
            grub_cloud: true,
            ..good()
        };

        assert_eq!(names(&facts, Weight::Experimental), ["bios", "grub_cloud"]);
        assert_eq!(names(&facts, Weight::Refused), [""; 0]);
    }

    #[test]
    fn all_of_many_are_named() {
        let facts = Facts {
            kind: "xfs".to_owned(),
            layer: Some("LUKS (root)".to_owned()),
            elsewhere: vec!["/usr".to_owned(), "/var".to_owned()],
            uefi: false,
            ..good()
        };

        assert_eq!(
            names(&facts, Weight::Refused),
            ["layer", "elsewhere", "elsewhere", "boot"]
        );
        assert_eq!(facts.obstacles().len(), 5);
    }
}
