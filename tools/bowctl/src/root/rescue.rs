// SPDX-License-Identifier: GPL-2.0

//! A kernel and its initramfs on the EFI system partition, which GRUB boots when it cannot read its configuration.
//!
//! While a rollback is under way the root file system is neither the old one nor the new one, and GRUB reads its
//! configuration, the kernel and the initramfs from it. If power fails then, GRUB must not depend on what it finds
//! there. So the restore hides the file system from GRUB until it is complete, and the small configuration on the
//! EFI system partition, which names the one in /boot/grub, goes on to the copy beside it when there is none.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{fstatvfs, major, minor};

use super::initramfs::{self, Bootable};
use super::update::{self, Records};
use super::{config, grub, layout};
use crate::error::{Code, CommandError, Result};
use crate::users;

/// Places where the EFI system partition is mounted.
pub const MOUNTS: [&str; 2] = ["/boot/efi", "/efi"];

/// End of each line that is ours.
const MARK: &str = " # dm-bow";

/// Bytes of the partition that are left to others.
const MARGIN: u64 = 4 << 20;

/// The EFI system partition, with the configurations of GRUB on it.
#[derive(Debug)]
pub struct Rescue {
    folder: PathBuf,
    configurations: Vec<PathBuf>,
}

impl Rescue {
    /// Finds the partition. Returns `None` where GRUB is not started by UEFI from one that is mounted.
    pub fn find() -> Option<Self> {
        let uuid = boot_uuid()?;

        MOUNTS
            .iter()
            .find_map(|mount| Self::at(Path::new(mount), &uuid))
    }

    fn at(mount: &Path, uuid: &str) -> Option<Self> {
        let configurations: Vec<_> = users::entries(&mount.join("EFI"))
            .map(|folder| folder.join("grub.cfg"))
            .filter(|path| fs::read_to_string(path).is_ok_and(|text| is_for(&text, uuid)))
            .collect();

        (!configurations.is_empty()).then(|| Self {
            folder: mount.join("EFI/bow"),
            configurations,
        })
    }

    /// Returns the records on the partition: of what a root file system that is read-only does not take.
    pub fn records(&self) -> Records {
        Records::at(self.folder.clone())
    }

    /// Copies the kernel that runs and its initramfs, and has GRUB go on to them. `kernel_line` is the kernel's
    /// command line.
    ///
    /// # Errors
    ///
    /// [`Code::State`] if there is no room; those of the file system.
    pub fn write(&self, boot: &Path, kernel_line: &str) -> Result {
        let release = update::kernel();
        let Some(Bootable {
            image: Some(image), ..
        }) = initramfs::bootable(boot)
            .into_iter()
            .find(|kernel| kernel.release == release)
        else {
            return Err(CommandError::new(
                Code::State,
                format!(
                    "{}: there is no initramfs for kernel {release}",
                    boot.display()
                ),
            ));
        };
        let files = [
            (boot.join(format!("vmlinuz-{release}")), "vmlinuz"),
            (image, "initrd.img"),
        ];

        self.copy(&files)?;
        for path in &self.configurations {
            let failed = |error| CommandError::io(path.display(), &error);
            let text = fs::read_to_string(path).map_err(failed)?;
            let new = with_rescue(&text, kernel_line);

            if new != text {
                replace(path, new.as_bytes()).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn copy(&self, files: &[(PathBuf, &str)]) -> Result {
        let failed = |error: io::Error| CommandError::io(self.folder.display(), &error);

        fs::create_dir_all(&self.folder).map_err(failed)?;
        // Of a copy that was cut off.
        for (_, name) in files {
            let _ = fs::remove_file(self.folder.join(name).with_extension("new"));
        }
        let space = File::open(&self.folder)
            .and_then(|folder| Ok(fstatvfs(folder)?))
            .map_err(failed)?;
        let length = |path: &Path| path.metadata().map_or(0, |file| file.len());
        // A file that is replaced is there until the new one is complete.
        let needed: u64 = files.iter().map(|(path, _)| length(path)).sum();
        let free = space.f_bavail.saturating_mul(space.f_frsize);

        if files
            .iter()
            .all(|(path, name)| is_same(path, &self.folder.join(name)))
        {
            return Ok(());
        }
        if free < needed + MARGIN {
            return Err(CommandError::new(
                Code::State,
                format!(
                    "{}: there is no room for a kernel and an initramfs: {} MiB are free, {} needed",
                    self.folder.display(),
                    free >> 20,
                    (needed + MARGIN) >> 20
                ),
            ));
        }
        for (path, name) in files {
            fs::read(path)
                .and_then(|data| replace(&self.folder.join(name), &data))
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Removes the copies, and their lines from the configurations of GRUB.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn remove(&self) -> Result {
        for path in &self.configurations {
            let failed = |error| CommandError::io(path.display(), &error);
            let text = fs::read_to_string(path).map_err(failed)?;
            let new = without_rescue(&text);

            if new != text {
                replace(path, new.as_bytes()).map_err(failed)?;
            }
        }
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CommandError::io(self.folder.display(), &error))
            }
            _ => Ok(()),
        }
    }
}

/// Copies the kernel that runs to where GRUB finds it while a rollback is under way, if that is counted on.
///
/// # Errors
///
/// Those of [`Rescue::write`].
pub fn write(root: &config::Root) -> Result {
    if !root.rescue {
        return Ok(());
    }
    let rescue = Rescue::find().ok_or_else(|| {
        CommandError::new(
            Code::State,
            "the EFI system partition with the configuration of GRUB is not mounted (/boot/efi)",
        )
        .advise("Mount it. GRUB boots from it while a rollback is under way.")
    })?;
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();

    rescue.write(Path::new(super::BOOT), &kernel_line(&line))
}

/// Returns the command line of a kernel that boots as the one does that has `line`, but decides by itself.
fn kernel_line(line: &str) -> String {
    let mut words: Vec<_> = line
        .split_whitespace()
        .filter(|word| {
            !["BOOT_IMAGE=", "initrd=", "bow=", "bow.", "panic="]
                .iter()
                .any(|start| word.starts_with(start))
        })
        .collect();

    words.push("panic=30");
    words.join(" ")
}

/// Returns the UUID of the file system that /boot is on.
fn boot_uuid() -> Option<String> {
    let dev = fs::metadata("/boot").ok()?.dev();
    let number = format!("{}:{}", major(dev), minor(dev));

    Some(layout::superblock(&number)?.uuid())
}

/// Returns whether a configuration of GRUB goes on to one on the file system of a UUID. Other systems may have theirs
/// on the same partition.
fn is_for(text: &str, uuid: &str) -> bool {
    let searches = text.lines().map(str::trim).any(|line| {
        line.starts_with("search")
            && line
                .split_whitespace()
                .any(|word| word.eq_ignore_ascii_case(uuid))
    });

    searches && text.contains("configfile ")
}

/// Returns whether two files have the same contents.
fn is_same(one: &Path, other: &Path) -> bool {
    let read = |path| fs::read(path).ok();

    match (one.metadata(), other.metadata()) {
        (Ok(first), Ok(second)) => first.len() == second.len() && read(one) == read(other),
        _ => false,
    }
}

/// Replaces a file durably, such that there is the old one or the new one.
fn replace(path: &Path, data: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");

    fs::write(&new, data)?;
    File::open(&new)?.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Returns a configuration of GRUB that goes on to the copies when the one that it names has come to nothing.
fn with_rescue(text: &str, kernel_line: &str) -> String {
    let others = without_rescue(text);
    let end = if others.is_empty() || others.ends_with('\n') {
        ""
    } else {
        "\n"
    };

    // GRUB comes back here also when a person leaves its menu.
    format!(
        "set bow_esp=$root{MARK}\n{others}{end}\
         if [ ! -s $prefix/grub.cfg ]; then{MARK}\n\
         set root=$bow_esp{MARK}\n\
         linux /EFI/bow/vmlinuz {}{MARK}\n\
         initrd /EFI/bow/initrd.img{MARK}\n\
         boot{MARK}\n\
         fi{MARK}\n",
        grub::escaped(kernel_line)
    )
}

/// Returns a configuration of GRUB without the lines that are ours.
fn without_rescue(text: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.trim_end().ends_with(MARK))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "search.fs_uuid 1-2 root hd0,gpt2 \n\
                         set prefix=($root)'/boot/grub'\n\
                         configfile $prefix/grub.cfg\n";

    #[test]
    fn lines_are_added_once_and_removed() {
        let once = with_rescue(PLAIN, "root=UUID=1-2 ro");

        assert!(once.starts_with("set bow_esp=$root # dm-bow\nsearch.fs_uuid"));
        assert!(once
            .contains("grub.cfg\nif [ ! -s $prefix/grub.cfg ]; then # dm-bow\nset root=$bow_esp"));
        assert!(once.ends_with("boot # dm-bow\nfi # dm-bow\n"));
        assert!(once.contains("linux /EFI/bow/vmlinuz root=UUID=1-2 ro # dm-bow\n"));
        assert_eq!(with_rescue(&once, "root=UUID=1-2 ro"), once);
        assert_eq!(without_rescue(&once), PLAIN);
        assert_eq!(without_rescue(PLAIN), PLAIN);
        assert!(with_rescue(PLAIN.trim_end(), "").contains("grub.cfg\nif"));
    }

    /// Makes a partition with Debian's configuration of GRUB.
    fn partition() -> (tempfile::TempDir, Rescue) {
        let folder = tempfile::tempdir().unwrap();
        let efi = folder.path().join("EFI/debian");

        fs::create_dir_all(&efi).unwrap();
        fs::write(efi.join("grub.cfg"), PLAIN).unwrap();
        let rescue = Rescue::at(folder.path(), "1-2").unwrap();
        (folder, rescue)
    }

    #[test]
    fn the_rescue_boots_like_the_kernel_that_runs() {
        assert_eq!(
            kernel_line("BOOT_IMAGE=/boot/vmlinuz-7 root=UUID=1 ro quiet bow=restore bow.tries_left=0 panic=5\n"),
            "root=UUID=1 ro quiet panic=30"
        );
    }

    #[test]
    fn the_partition_is_found_by_a_configuration_that_names_another() {
        let folder = tempfile::tempdir().unwrap();
        let efi = folder.path().join("EFI/debian");

        fs::create_dir_all(&efi).unwrap();
        assert!(Rescue::at(folder.path(), "1-2").is_none());
        fs::write(efi.join("grub.cfg"), PLAIN).unwrap();
        let other = folder.path().join("EFI/other");
        fs::create_dir_all(&other).unwrap();
        let of_other = with_rescue(&PLAIN.replace("1-2", "1-3"), "root=UUID=1-2 ro");
        fs::write(other.join("grub.cfg"), of_other).unwrap();
        let rescue = Rescue::at(folder.path(), "1-2").unwrap();
        assert_eq!(rescue.configurations, [efi.join("grub.cfg")]);
        assert!(Rescue::at(folder.path(), "1-4").is_none());
    }

    #[test]
    fn records_are_beside_the_copies() {
        let (folder, rescue) = partition();
        let failure = update::Failure::now("read-only".to_owned(), Vec::new());

        rescue.records().add_failure(&failure).unwrap();
        assert!(folder.path().join("EFI/bow/failed.jsonl").exists());
        assert_eq!(rescue.records().failures(), [failure]);
        rescue.records().forget();
        assert!(rescue.records().failures().is_empty());
    }

    #[test]
    fn files_are_copied_and_removed() {
        let (folder, rescue) = partition();
        let kernel = folder.path().join("vmlinuz-1");
        let copy = folder.path().join("EFI/bow/vmlinuz");

        fs::write(&kernel, "kernel").unwrap();
        rescue.copy(&[(kernel.clone(), "vmlinuz")]).unwrap();
        assert!(is_same(&kernel, &copy));
        fs::write(&kernel, "KERNEL").unwrap();
        assert!(!is_same(&kernel, &copy));
        rescue.copy(&[(kernel.clone(), "vmlinuz")]).unwrap();
        assert!(is_same(&kernel, &copy));
        let cut_off = copy.with_extension("new");
        fs::write(&cut_off, "KER").unwrap();
        rescue.copy(&[(kernel, "vmlinuz")]).unwrap();
        assert!(!cut_off.exists());
        rescue.remove().unwrap();
        rescue.remove().unwrap();
        assert!(!copy.exists());
    }
}
