// SPDX-License-Identifier: GPL-2.0

//! Mounted file systems: where a device is mounted, trimming, freezing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use rustix::fs::syncfs;
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use crate::ioctl;
use crate::users;

/// Where the block device of a number («major:minor») is mounted.
///
/// A file system over several devices (btrfs) has a number of its own; it is found by the device
/// that it was mounted from.
pub fn points_of(number: &str) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();

    parse(&text)
        .into_iter()
        .filter(|mount| {
            mount.number == number
                || (mount.source.starts_with("/dev/")
                    && users::number(&mount.source).as_deref() == Some(number))
        })
        .map(|mount| mount.point)
        .collect()
}

/// Returns whether something is mounted on exactly this path.
pub fn number_at(point: &Path) -> Option<String> {
    let point = point.canonicalize().ok()?;
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // The last one hides those before.
    let mount = parse(&text)
        .into_iter()
        .rfind(|mount| mount.point == point)?;

    users::number(&mount.source).or(Some(mount.number))
}

/// A line of `/proc/self/mountinfo`, as far as it is needed.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    number: String,
    point: PathBuf,
    source: PathBuf,
}

fn parse(mountinfo: &str) -> Vec<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (front, back) = line.split_once(" - ")?;
            let mut front = front.split(' ').skip(2);
            let number = front.next()?.to_owned();
            let point = unescape(front.nth(1)?);
            let source = unescape(back.split(' ').nth(1)?);

            Some(Mount {
                number,
                point,
                source,
            })
        })
        .collect()
}

/// A path with `\ooo` for spaces and the like.
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

/// Discards all free space of the file system mounted on `point`. Returns how many bytes.
///
/// # Errors
///
/// The file system's; `EOPNOTSUPP` if it cannot.
pub fn trim(point: &Path) -> io::Result<u64> {
    ioctl::trim(&File::open(point)?)
}

/// A frozen file system. It is thawed when this is dropped, whatever happens in between; signals
/// that would end the process are held back until then.
#[derive(Debug)]
pub struct Frozen {
    root: File,
    frozen: bool,
    signals: Vec<signal_hook::SigId>,
}

impl Frozen {
    /// Freezes the file system mounted on `point`: it is made clean on disk, and writers wait.
    ///
    /// One that cannot be frozen (vfat) is written out instead.
    ///
    /// # Errors
    ///
    /// The file system's; `EBUSY` if it is frozen already.
    pub fn new(point: &Path) -> io::Result<Self> {
        let root = File::open(point)?;
        let ignored = Arc::new(AtomicBool::new(false));
        let mut signals = Vec::new();

        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            signals.push(signal_hook::flag::register(signal, ignored.clone())?);
        }

        let frozen = match ioctl::freeze(&root) {
            Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
                syncfs(&root)?;
                false
            }
            result => result.map(|()| true)?,
        };
        Ok(Self {
            root,
            frozen,
            signals,
        })
    }

    /// Thaws the file system.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn thaw(mut self) -> io::Result<()> {
        if std::mem::take(&mut self.frozen) {
            ioctl::thaw(&self.root)?;
        }
        Ok(())
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if self.frozen {
            let _ = ioctl::thaw(&self.root);
        }
        for signal in self.signals.drain(..) {
            signal_hook::low_level::unregister(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_read() {
        let text = "36 35 98:0 /mnt1 /mnt/a\\040b rw,noatime master:1 - ext3 /dev/root rw\n\
                    37 35 0:31 / /b rw - btrfs /dev/mapper/b rw\n";
        let mounts = parse(text);

        assert_eq!(mounts[0].point, Path::new("/mnt/a b"));
        assert_eq!(mounts[0].number, "98:0");
        assert_eq!(mounts[1].source, Path::new("/dev/mapper/b"));
        assert_eq!(mounts.len(), 2);
    }
}
