// SPDX-License-Identifier: GPL-2.0

//! Images of the initramfs of each kernel in /boot, and what they must have to decide about a checkpoint.

use std::path::{Path, PathBuf};

use super::programs;
use crate::error::{Code, CommandError, Result};
use crate::users;

/// A kernel in /boot with its initramfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootable {
    /// Release of the kernel.
    pub release: String,
    /// Image of its initramfs; none if there is none.
    pub image: Option<PathBuf>,
}

/// Contents of an image, as far as they matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// `bowctl` and its configuration.
    pub bowctl: bool,
    /// The module for its kernel.
    pub module: bool,
}

/// Returns the kernels in a directory that could be booted, newest last as far as versions can be compared.
pub fn bootable(boot: &Path) -> Vec<Bootable> {
    let mut all: Vec<_> = users::entries(boot)
        .filter_map(|path| {
            let release = users::file_name(&path).strip_prefix("vmlinuz-")?.to_owned();
            let image = [
                format!("initrd.img-{release}"),
                format!("initramfs-{release}.img"),
            ]
            .into_iter()
            .map(|name| boot.join(name))
            .find(|path| path.exists());

            Some(Bootable { release, image })
        })
        .collect();

    all.sort_by_key(|kernel| version(&kernel.release));
    all
}

/// Returns what versions are compared by: runs of digits as numbers, the rest as text.
fn version(release: &str) -> Vec<(u64, String)> {
    let mut parts = Vec::new();
    let mut rest = release;

    while !rest.is_empty() {
        let text = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let (word, after) = rest.split_at(text);
        let digits = after
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(after.len());
        let (number, after) = after.split_at(digits);

        parts.push((number.parse().unwrap_or(0), word.to_owned()));
        rest = after;
    }
    parts
}

/// Returns what an image has.
///
/// # Errors
///
/// If there is no program that lists images, or it fails.
pub fn contents(image: &Path) -> Result<Contents> {
    let path = image.display().to_string();
    let list = if programs::has("lsinitramfs") {
        programs::output("lsinitramfs", &[&path])?
    } else if programs::has("lsinitrd") {
        programs::output("lsinitrd", &[&path])?
    } else {
        return Err(CommandError::new(
            Code::Failed,
            "there is neither lsinitramfs nor lsinitrd: it cannot be told what an initramfs has",
        ));
    };

    Ok(contents_of(&list))
}

/// Returns what an image has whose files are listed, a path a line, at the line's end.
fn contents_of(list: &str) -> Contents {
    let has = |end: &str| {
        list.lines()
            .filter_map(|line| line.split_whitespace().next_back())
            .any(|path| path.ends_with(end))
    };

    Contents {
        bowctl: has("sbin/bowctl") && has("var/lib/bow/root.conf"),
        module: ["", ".xz", ".zst", ".gz"]
            .iter()
            .any(|packed| has(&format!("/dm-bow.ko{packed}"))),
    }
}

/// Makes all images anew.
///
/// # Errors
///
/// If there is no program that makes images, or it fails.
pub fn rebuild() -> Result {
    if programs::has("update-initramfs") {
        programs::show("update-initramfs", &["-u", "-k", "all"])
    } else if programs::has("dracut") {
        programs::show("dracut", &["--force", "--regenerate-all"])
    } else {
        Err(CommandError::new(
            Code::Failed,
            "there is neither update-initramfs nor dracut: nothing makes an initramfs",
        ))
    }
}

/// Returns the kernel of `kernels` that boots by itself. `modules` is the directory of all kernels' modules.
///
/// GRUB boots the newest one that has the module (bow-kernel.cfg), other boot loaders the newest.
fn first<'a>(kernels: &'a [Bootable], modules: &Path, grub: bool) -> Option<&'a Bootable> {
    let has_module = |kernel: &&Bootable| {
        grub && is_module_below(&modules.join(&kernel.release).join("updates"))
    };

    kernels.iter().rfind(has_module).or(kernels.last())
}

/// Returns whether the module is in a directory or one below it.
fn is_module_below(folder: &Path) -> bool {
    users::entries(folder).any(|path| {
        users::file_name(&path).starts_with("dm-bow.ko")
            || (!path.is_symlink() && path.is_dir() && is_module_below(&path))
    })
}

/// Checks that each kernel that could be booted decides about the checkpoint, and that the one which boots by itself
/// can go on with it.
///
/// # Errors
///
/// [`Code::State`] names what is missing.
pub fn check(boot: &Path) -> Result {
    let kernels = bootable(boot);
    let grub = programs::has("update-grub") || programs::has("grub-mkconfig");
    let Some(first) = first(&kernels, Path::new("/lib/modules"), grub) else {
        return Err(missing(
            format!("{}: there is no kernel (vmlinuz-*)", boot.display()),
            "Kernels in other places are not supported yet.",
        ));
    };

    for kernel in &kernels {
        let release = &kernel.release;
        let Some(image) = &kernel.image else {
            return Err(missing(
                format!("kernel {release} has no initramfs: with it, nothing would decide about the checkpoint"),
                format!("Make one (`update-initramfs -c -k {release}`), or remove that kernel."),
            ));
        };
        let found = contents(image)?;

        if !found.bowctl {
            return Err(missing(
                format!(
                    "{}: bowctl or its configuration is not in it",
                    image.display()
                ),
                format!(
                    "Make it anew (`update-initramfs -u -k {release}`), or remove that kernel."
                ),
            ));
        }
        if !found.module && kernel == first {
            return Err(missing(
                format!("{}: the module dm-bow is not in it", image.display()),
                format!(
                    "Install the module for kernel {release} (dm-bow-dkms builds it: `dkms status`), make the \
                     initramfs anew, or remove that kernel."
                ),
            ));
        }
    }
    Ok(())
}

fn missing(message: String, advice: impl Into<String>) -> CommandError {
    CommandError::new(Code::State, message).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_found_in_lists_of_both_programs() {
        let all = Contents {
            bowctl: true,
            module: true,
        };

        assert_eq!(
            contents_of(
                "usr/sbin/bowctl\nvar/lib/bow/root.conf\nusr/lib/modules/7.3.4/updates/dkms/dm-bow.ko.xz\n"
            ),
            all
        );
        assert_eq!(
            contents_of(
                "-rwxr-xr-x   1 root     root 4321 Jan  1 00:00 usr/sbin/bowctl\n\
                 -rw-r--r--   1 root     root   43 Jan  1 00:00 var/lib/bow/root.conf\n\
                 -rw-r--r--   1 root     root  943 Jan  1 00:00 usr/lib/modules/7.3.4/updates/dm-bow.ko\n"
            ),
            all
        );
        // The hook has run before dm-bow was enabled.
        assert!(!contents_of("usr/sbin/bowctl\n").bowctl);
        assert!(!contents_of("usr/lib/modules/7.3.4/dm-bow.ko.doc\n").module);
    }

    #[test]
    fn kernels_are_in_the_order_of_their_versions() {
        let folder = tempfile::tempdir().unwrap();
        let releases = ["7.3.4+deb13-amd64", "7.3.12+deb13-amd64", "6.12.9-amd64"];

        for release in releases {
            std::fs::write(folder.path().join(format!("vmlinuz-{release}")), "").unwrap();
        }
        std::fs::write(folder.path().join("initrd.img-6.12.9-amd64"), "").unwrap();
        std::fs::write(folder.path().join("initramfs-7.3.4+deb13-amd64.img"), "").unwrap();
        let found = bootable(folder.path());
        let names: Vec<_> = found.iter().map(|kernel| kernel.release.as_str()).collect();

        assert_eq!(names, [releases[2], releases[0], releases[1]]);
        assert!(found[0].image.is_some() && found[1].image.is_some());
        assert_eq!(found[2].image, None);
    }

    #[test]
    fn grub_boots_the_newest_kernel_that_has_the_module() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = |release: &str| Bootable {
            release: release.to_owned(),
            image: None,
        };
        let kernels = ["6.12.9", "7.3.4", "7.3.5"].map(kernel);
        let put = |path: &str| {
            let path = folder.path().join(path);

            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let release = |grub| {
            first(&kernels, folder.path(), grub)
                .unwrap()
                .release
                .clone()
        };

        assert_eq!(release(true), "7.3.5");
        put("6.12.9/updates/dm-bow.ko.xz");
        put("7.3.4/updates/dkms/dm-bow.ko");
        put("7.3.5/updates/dkms/other.ko");
        assert_eq!(release(true), "7.3.4");
        assert_eq!(release(false), "7.3.5");
        assert_eq!(first(&[], folder.path(), true), None);
    }

    #[test]
    fn a_kernel_without_an_initramfs_is_named() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(check(folder.path()).unwrap_err().code, Code::State);
        std::fs::write(folder.path().join("vmlinuz-7.3.4"), "").unwrap();
        assert!(check(folder.path()).unwrap_err().message.contains("7.3.4"));
    }
}
