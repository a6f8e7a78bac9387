// SPDX-License-Identifier: GPL-2.0

//! Mounts, in every mount namespace that a process is in.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{open, statx, AtFlags, Mode, OFlags, StatxFlags};

use crate::users;

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The kernel's number for it, which no two mounts have at a time.
    pub id: u64,
    /// The file system's device number; one of its own (`0:31`) if it may be on several devices.
    pub number: String,
    /// The directory of the file system that is mounted: not its root for a bind mount of a part, or a subvolume.
    pub root: PathBuf,
    /// The mount point, as processes of its namespace see it.
    pub point: PathBuf,
    /// The options of the mount, separated by commas.
    pub flags: String,
    /// The file system's type.
    pub kind: String,
    /// The source, in most cases the path of a block device.
    pub source: PathBuf,
    /// The options of the file system, separated by commas.
    pub options: String,
    /// A process that sees the mount; none if this one does.
    pub process: Option<u32>,
}

impl Mount {
    /// Opens the directory that is mounted. Returns `None` if it cannot be reached: another mount
    /// hides it, or its namespace is gone.
    pub fn open(&self) -> Option<File> {
        let root = File::open(self.outside(&self.point)).ok()?;
        let found = statx(&root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;

        (root.metadata().ok()?.is_dir() && found.stx_mnt_id == self.id).then_some(root)
    }

    /// Returns whether this is what processes find at the mount point. Does not ask the file system, which may have
    /// shut itself down.
    pub fn is_on_top(&self) -> bool {
        let found = || -> Option<u64> {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let place = open(self.outside(&self.point), flags, Mode::empty()).ok()?;
            let text =
                fs::read_to_string(format!("/proc/self/fdinfo/{}", place.as_raw_fd())).ok()?;

            text.lines()
                .find_map(|line| line.strip_prefix("mnt_id:"))?
                .trim()
                .parse()
                .ok()
        };

        found() == Some(self.id)
    }

    /// Returns whether all of the file system is mounted, or of a subvolume of it, and not a directory of that.
    pub fn is_whole(&self) -> bool {
        self.root == unescape(self.option("subvol").unwrap_or("/"))
    }

    /// Returns the number of the block device that is the source.
    pub fn source_number(&self) -> Option<String> {
        self.source
            .starts_with("/dev")
            .then(|| self.number_of(&self.source))
            .flatten()
    }

    /// Returns the number of the block device at a path in the mount's namespace.
    pub fn number_of(&self, path: &Path) -> Option<String> {
        users::number(&self.outside(path)).or_else(|| users::number(path))
    }

    /// Returns the value of an option of the file system, with `\ooo` for spaces, commas and the like.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options
            .split(',')
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Tells where it is, for messages.
    pub fn shown(&self) -> String {
        match self.process {
            None => self.point.display().to_string(),
            Some(process) => format!(
                "{} (in the mount namespace of process {process})",
                self.point.display()
            ),
        }
    }

    /// Returns this process's path for one of the mount's namespace.
    fn outside(&self, path: &Path) -> PathBuf {
        match self.process {
            None => path.to_owned(),
            Some(process) => Path::new("/proc")
                .join(process.to_string())
                .join("root")
                .join(path.strip_prefix("/").unwrap_or(path)),
        }
    }
}

/// Returns all mounts, those that this process sees first.
pub fn all() -> Vec<Mount> {
    let mut mounts = own();
    let mut ids: HashSet<_> = mounts.iter().map(|mount| mount.id).collect();
    // What a process sees is decided by its namespace and its root.
    let view = |process: &Path| {
        Some((
            fs::read_link(process.join("ns/mnt")).ok()?,
            fs::read_link(process.join("root")).ok()?,
        ))
    };
    let mut views: HashSet<_> = view(Path::new("/proc/self")).into_iter().collect();

    for folder in users::entries(Path::new("/proc")) {
        let Ok(process) = users::file_name(&folder).parse() else {
            continue;
        };
        if view(&folder).is_some_and(|view| views.insert(view)) {
            let text = fs::read_to_string(folder.join("mountinfo")).unwrap_or_default();

            mounts.extend(
                parse(&text, Some(process))
                    .into_iter()
                    .filter(|mount| ids.insert(mount.id)),
            );
        }
    }
    mounts
}

/// Returns the mounts that this process sees.
fn own() -> Vec<Mount> {
    parse(
        &fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
        None,
    )
}

/// Returns the mounts of the block device of a number (`major:minor`), in any namespace.
///
/// A file system over several devices (btrfs) has a number of its own; it is found by the device
/// that it was mounted from.
pub fn of(number: &str) -> impl Iterator<Item = Mount> + '_ {
    all().into_iter().filter(move |mount| {
        mount.number == number || mount.source_number().as_deref() == Some(number)
    })
}

/// Returns where the block device of a number is mounted, in any namespace.
pub fn points_of(number: &str) -> Vec<String> {
    of(number).map(|mount| mount.shown()).collect()
}

/// Returns the number of the device whose file system is mounted on exactly this path.
pub fn number_at(point: &Path) -> Option<String> {
    let point = point.canonicalize().ok()?;
    // The last one hides those before.
    let mount = own().into_iter().rfind(|mount| mount.point == point)?;

    mount.source_number().or(Some(mount.number))
}

/// Reads the text of a `mountinfo`.
fn parse(mountinfo: &str, process: Option<u32>) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ');
            let id = front.next()?.parse().ok()?;
            let number = front.nth(1)?.to_owned();
            let root = unescape(front.next()?);
            let point = unescape(front.next()?);
            let flags = front.next()?.to_owned();
            let mut back = back.split(' ');

            Some(Mount {
                id,
                number,
                root,
                point,
                flags,
                kind: back.next()?.to_owned(),
                source: unescape(back.next()?),
                options: back.next().unwrap_or_default().to_owned(),
                process,
            })
        })
        .collect()
}

/// Returns a path that has `\ooo` for spaces and the like.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();

    while let Some((first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| *first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());

        bytes.push(octal.unwrap_or(*first));
        rest = &after[if octal.is_some() { 3 } else { 0 }..];
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let text = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:31 / /b rw - btrfs /dev/mapper/b rw\n\
                    38 35 8:1 / /c rw - xfs /dev/sda1 rw,logdev=/dev/sdb1,noquota\n\
                    39 35 0:31 /@ /d rw - btrfs /dev/mapper/b rw,subvolid=256,subvol=/@\n\
                    40 35 0:31 /@/x /e rw - btrfs /dev/mapper/b rw,subvolid=256,subvol=/@\n\
                    41 35 0:31 /my\\040@,x /f rw - btrfs /dev/mapper/b rw,subvolid=257,subvol=/my\\040@\\054x\n";
        let mounts = parse(text, Some(7));

        assert_eq!(mounts[0].id, 36);
        assert_eq!(mounts[0].point, Path::new("/mnt/a b"));
        assert_eq!(mounts[0].number, "98:0");
        assert_eq!(mounts[0].root, Path::new("/mnt1"));
        assert_eq!(mounts[0].flags, "rw,noatime");
        assert!(!mounts[0].is_whole() && mounts[1].is_whole() && mounts[2].is_whole());
        assert!(mounts[3].is_whole() && !mounts[4].is_whole() && mounts[5].is_whole());
        assert_eq!(
            mounts[0].outside(&mounts[0].point),
            Path::new("/proc/7/root/mnt/a b")
        );
        assert_eq!(mounts[1].source, Path::new("/dev/mapper/b"));
        assert_eq!(mounts[1].kind, "btrfs");
        assert_eq!(mounts[2].option("logdev"), Some("/dev/sdb1"));
        assert_eq!(mounts[2].option("log"), None);
        assert_eq!(mounts.len(), 6);
    }

    /// Each mount that this process sees is reached by its own number, or hidden.
    #[test]
    fn the_root_is_reached() {
        let root = own()
            .into_iter()
            .rfind(|mount| mount.point == Path::new("/"))
            .unwrap();

        assert!(root.open().is_some() && root.is_on_top());
        let other = Mount {
            id: root.id + 1_000_000,
            ..root
        };
        assert!(other.open().is_none() && !other.is_on_top());
        assert!(!all().is_empty());
    }
}
