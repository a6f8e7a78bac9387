// SPDX-License-Identifier: GPL-2.0

//! Locking block devices, images, and a file that keeps commands apart.
//!
//! Programs that change a block device lock its *whole disk* (<https://systemd.io/BLOCK_DEVICE_LOCKING>);
//! udev holds a shared lock on it while it looks, which takes a moment.

use std::fs::{self, File, Metadata, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{flock, major, minor, FlockOperation};
use rustix::io::Errno;

use crate::error::{CommandError, Result};
use crate::users;

/// Time for which others may hold the lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Locks the whole disk that the block device at `path` is on, or the image, until the file that is
/// returned is dropped.
///
/// # Errors
///
/// [`Code::InUse`](crate::error::Code::InUse) says who holds the lock, if that takes longer than
/// some seconds.
pub fn lock(path: &Path) -> Result<File> {
    let disk = whole_disk(path);
    let file = File::open(&disk).map_err(|error| CommandError::io(disk.display(), &error))?;

    take(file, &disk, path, PATIENCE)
}

/// Locks the file at `path`, which is made if it is missing, until the file that is returned is dropped.
///
/// # Errors
///
/// [`Code::InUse`](crate::error::Code::InUse) says who holds the lock, if that takes longer than `patience`.
pub fn lock_file(path: &Path, patience: Duration) -> Result<File> {
    let failed = |error| CommandError::io(path.display(), &error);

    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(failed)?;
    take(file, path, path, patience)
}

/// Locks a file, which is `disk`, on behalf of what is done with `path`.
fn take(file: File, disk: &Path, path: &Path, patience: Duration) -> Result<File> {
    let failed = |error| CommandError::io(disk.display(), &error);
    let begun = Instant::now();

    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) if begun.elapsed() < patience => {
                sleep(Duration::from_millis(50));
            }
            Err(Errno::WOULDBLOCK) => {
                let what = format!("{} is locked by {}", disk.display(), holders(&file));

                return Err(users::in_use(path, &[what]));
            }
            Err(error) => return Err(failed(error.into())),
        }
    }
}

/// Returns the disk of a partition, or else `path` itself.
fn whole_disk(path: &Path) -> PathBuf {
    let disk = || {
        let sysfs = users::sysfs(&users::number(path)?);

        sysfs.join("partition").exists().then_some(())?;
        users::node(&users::read(
            &sysfs.canonicalize().ok()?.parent()?.join("dev"),
        )?)
    };

    disk().unwrap_or_else(|| path.to_owned())
}

/// Returns who has a lock on a file.
fn holders(file: &File) -> String {
    let names: Vec<_> = file
        .metadata()
        .map_or_else(|_| Vec::new(), |file| processes("FLOCK", &file))
        .iter()
        .map(|process| users::process(process))
        .collect();

    if names.is_empty() {
        "another process".to_owned()
    } else {
        names.join(", ")
    }
}

/// Returns the names of the programs that have the file at `path` locked in the way of fcntl(2).
pub fn programs_with(path: &Path) -> Vec<String> {
    let Ok(file) = path.metadata() else {
        return Vec::new();
    };

    processes("POSIX", &file)
        .iter()
        .filter_map(|process| users::read(&Path::new("/proc").join(process).join("comm")))
        .collect()
}

/// Returns the processes that have a lock of a kind on a file.
fn processes(kind: &str, file: &Metadata) -> Vec<String> {
    let dev = file.dev();
    let id = format!("{:02x}:{:02x}:{}", major(dev), minor(dev), file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();

    parse(&locks, kind, &id).map(str::to_owned).collect()
}

/// Returns the processes that have a lock of a kind on the file of an id, from the text of `/proc/locks`.
fn parse<'a>(locks: &'a str, kind: &'a str, id: &'a str) -> impl Iterator<Item = &'a str> {
    locks.lines().filter_map(move |line| {
        // 1: FLOCK  ADVISORY  WRITE 708 08:01:131 0 EOF; those that wait have an arrow.
        let fields: Vec<_> = line.split_whitespace().collect();

        match fields.as_slice() {
            [_, found, _, _, process, file, ..] if *found == kind && *file == id => Some(*process),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_read() {
        let text = "1: FLOCK  ADVISORY  READ 708 00:06:131 0 EOF\n\
                    2: POSIX  ADVISORY  WRITE 709 00:06:131 0 EOF\n\
                    3: FLOCK  ADVISORY  WRITE 710 00:06:132 0 EOF\n\
                    3: -> FLOCK  ADVISORY  WRITE 711 00:06:131 0 EOF\n";

        let of = |kind| parse(text, kind, "00:06:131").collect::<Vec<_>>();
        assert_eq!(of("FLOCK"), ["708"]);
        assert_eq!(of("POSIX"), ["709"]);
    }

    #[test]
    fn a_program_with_a_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");

        assert_eq!(programs_with(&path), [""; 0]);
        let file = File::create(&path).unwrap();
        assert_eq!(programs_with(&path), [""; 0]);
        rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let own = users::read(Path::new("/proc/self/comm")).unwrap();
        assert_eq!(programs_with(&path), [own]);
    }
}
