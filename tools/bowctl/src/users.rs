// SPDX-License-Identifier: GPL-2.0

//! Users of a block device or image file.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{major, minor};

use crate::error::{Code, CommandError};
use crate::mount;

/// Returns the number of the block device at `path`, as `major:minor`; `None` if it is none.
pub fn number(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;

    metadata
        .file_type()
        .is_block_device()
        .then(|| format!("{}:{}", major(metadata.rdev()), minor(metadata.rdev())))
}

/// Returns the folder in sysfs of the block device of a number.
pub fn sysfs(number: &str) -> PathBuf {
    Path::new("/sys/dev/block").join(number)
}

/// Returns the device node of a number, by the name that the kernel gives it.
pub fn node(number: &str) -> Option<PathBuf> {
    read(&sysfs(number).join("uevent"))?
        .lines()
        .find_map(|line| line.strip_prefix("DEVNAME="))
        .map(|name| Path::new("/dev").join(name))
}

/// Returns a name for the block device of a number: that of device-mapper, or the kernel's.
pub fn name(number: &str) -> String {
    read(&sysfs(number).join("dm/name"))
        .or_else(|| Some(node(number)?.display().to_string()))
        .unwrap_or_else(|| number.to_owned())
}

/// Returns the processes that have the block device of a number open, one phrase each.
pub fn openers(number: &str) -> Vec<String> {
    let has_open = |process: &Path| {
        entries(&process.join("fd")).any(|file| self::number(&file).as_deref() == Some(number))
    };

    entries(Path::new("/proc"))
        .filter(|folder| file_name(folder).parse::<u32>().is_ok() && has_open(folder))
        .map(|folder| process(&file_name(&folder)))
        .collect()
}

/// Describes a process.
pub fn process(id: &str) -> String {
    match read(&Path::new("/proc").join(id).join("comm")) {
        Some(name) => format!("{name} (process {id})"),
        None => format!("process {id}"),
    }
}

/// Returns who uses the block device or image file at `path`, one phrase each.
pub fn of(path: &Path) -> Vec<String> {
    match number(path) {
        Some(number) => {
            let mut users = of_number(&number);

            // A disk is in use if one of its partitions is.
            for partition in entries(&sysfs(&number)) {
                if let Some(number) =
                    read(&partition.join("partition")).and_then(|_| read(&partition.join("dev")))
                {
                    users.extend(of_number(&number));
                }
            }
            users
        }
        None => loops(path),
    }
}

/// Returns the error for a device that is in use.
pub fn in_use(path: &Path, users: &[String]) -> CommandError {
    let by = match users {
        [] => "it is in use by someone the kernel does not name".to_owned(),
        users => format!("it is in use: {}", users.join(", ")),
    };

    CommandError::new(
        Code::InUse,
        format!("{}: {by}. Nothing was written.", path.display()),
    )
    .advise(
        "Unmount what is mounted and remove what is stacked on it \
         (`umount`, `bowctl remove`, `dmsetup remove`, `losetup -d`), then try again.",
    )
}

/// Returns who uses the block device of a number.
pub fn of_number(number: &str) -> Vec<String> {
    let mut users = Vec::new();

    for point in mount::points_of(number) {
        users.push(format!("mounted on {point}"));
    }
    for holder in entries(&sysfs(number).join("holders")) {
        let device = file_name(&holder);

        users.push(match read(&holder.join("dm/name")) {
            Some(name) => format!("held by the device-mapper device {name} ({device})"),
            None => format!("held by {device}"),
        });
    }
    if is_swap(number) {
        users.push("swap".to_owned());
    }
    users
}

/// Returns whether the block device of a number is swapped to.
pub fn is_swap(number: &str) -> bool {
    fs::read_to_string("/proc/swaps")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| self::number(Path::new(line.split_whitespace().next()?)))
        .any(|swap| swap == number)
}

/// Returns the loop devices over an image file.
fn loops(path: &Path) -> Vec<String> {
    let Ok(path) = path.canonicalize() else {
        return Vec::new();
    };

    entries(Path::new("/sys/block"))
        .filter(|device| {
            read(&device.join("loop/backing_file")).is_some_and(|file| Path::new(&file) == path)
        })
        .map(|device| format!("attached to /dev/{}", file_name(&device)))
        .collect()
}

/// Returns the entries of a folder; none if it cannot be read.
pub fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();

    paths.sort();
    paths.into_iter()
}

/// Returns a small file's text without the line's end; `None` if it cannot be read.
pub fn read(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim_end().to_owned())
}

/// Returns the last part of a path.
pub fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
