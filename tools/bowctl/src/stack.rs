// SPDX-License-Identifier: GPL-2.0

//! All that stands on some block devices: other block devices, and file systems.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{fstatvfs, OFlags};

use crate::error::{Code, CommandError, Result};
use crate::ext;
use crate::mount::{self, Mount};
use crate::users;

/// A file system, and how to reach it.
#[derive(Debug)]
pub struct FileSystem {
    /// A mount of it.
    pub mount: Mount,
    /// The directory that is mounted.
    pub root: File,
    /// The numbers of the block devices that it is on.
    pub devices: Vec<String>,
}

impl FileSystem {
    /// Returns the free space, in bytes, as the file system itself has it.
    pub fn free(&self) -> u64 {
        fstatvfs(&self.root).map_or(0, |space| space.f_bfree.saturating_mul(space.f_frsize))
    }
}

/// Returns the block devices of the given numbers and all that are on top of them.
pub fn above(numbers: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut found: Vec<_> = numbers.into_iter().collect();
    let mut next = 0;

    while let Some(number) = found.get(next) {
        for above in directly_above(number) {
            if !found.contains(&above) {
                found.push(above);
            }
        }
        next += 1;
    }
    found
}

/// Returns the numbers of holders, partitions, and loop devices.
fn directly_above(number: &str) -> Vec<String> {
    let folder = users::sysfs(number);
    let holders = users::entries(&folder.join("holders"));
    let partitions = users::entries(&folder).filter(|entry| entry.join("partition").exists());
    let loops = users::entries(Path::new("/sys/block")).filter(|device| {
        users::read(&device.join("loop/backing_file"))
            .is_some_and(|file| users::number(Path::new(&file)).as_deref() == Some(number))
    });

    holders
        .chain(partitions)
        .chain(loops)
        .filter_map(|device| users::read(&device.join("dev")))
        .collect()
}

/// Returns the file systems on the devices of the given numbers or above them, each once, when a
/// checkpoint of all these devices would be one of all of each file system.
///
/// # Errors
///
/// [`Code::InUse`] if something on the devices cannot be reached, or is on other devices as well.
pub fn file_systems(bases: &[String]) -> Result<Vec<FileSystem>> {
    let devices = above(bases.iter().cloned());

    for device in devices.iter().filter(|device| !bases.contains(device)) {
        for below in users::entries(&users::sysfs(device).join("slaves")) {
            let number = users::read(&below.join("dev")).unwrap_or_default();

            if !devices.contains(&number) {
                return Err(spans(&users::name(device), &number));
            }
        }
    }

    let mut found: Vec<FileSystem> = Vec::new();
    let mut hidden: Vec<Mount> = Vec::new();
    let mut used = Vec::new();
    for mount in mount::all() {
        let on = devices_of(&mount);

        if !on.iter().any(|number| devices.contains(number)) {
            continue;
        }
        if let Some(other) = on.iter().find(|number| !devices.contains(number)) {
            return Err(spans(
                &format!("the file system mounted on {}", mount.shown()),
                other,
            ));
        }
        if found.iter().any(|other| other.mount.number == mount.number) {
            continue;
        }
        used.extend(on.iter().cloned());
        match mount.open() {
            Some(root) => found.push(FileSystem {
                mount,
                root,
                devices: on,
            }),
            None => hidden.push(mount),
        }
    }
    let reached = |mount: &Mount| found.iter().any(|other| other.mount.number == mount.number);
    if let Some(mount) = hidden.iter().find(|mount| !reached(mount)) {
        return Err(CommandError::new(
            Code::InUse,
            format!(
                "{}: a file system is mounted on {}, but cannot be reached there and so not be \
                 frozen: another mount hides it. Nothing was changed.",
                users::name(&mount.number),
                mount.shown()
            ),
        )
        .advise("Unmount what hides it, or mount it in another place as well, and try again."));
    }
    for device in &devices {
        if !used.contains(device) && directly_above(device).is_empty() {
            not_held(device)?;
        }
    }
    Ok(found)
}

/// Returns the error for something that is on a device that does not take part.
fn spans(what: &str, other: &str) -> CommandError {
    CommandError::new(
        Code::InUse,
        format!(
            "{what} is on {} as well, which is not among the bow devices that were named: \
             a checkpoint of a part of it could not be rolled back. Nothing was changed.",
            users::name(other)
        ),
    )
    .advise(
        "Every device that it is on needs a bow device of its own, below everything else, and \
         all of them have to be named: `bowctl checkpoint A B`.",
    )
}

/// Checks that nobody has a device for himself: it would be a user that was not found.
fn not_held(number: &str) -> Result {
    const TRIES: u32 = 20;
    let Some(node) = users::node(number) else {
        return Ok(());
    };
    let busy = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::EXCL.bits() as i32)
            .open(&node)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ResourceBusy)
    };

    if users::is_swap(number) || !busy() {
        return Ok(());
    }
    for _ in 0..TRIES {
        sleep(Duration::from_millis(100));
        if !busy() {
            return Ok(());
        }
    }
    Err(CommandError::new(
        Code::InUse,
        format!(
            "{}: something uses it that cannot be seen from here, and so not be frozen: it is a \
             part of a file system over several devices (a journal or log of its own), mounted in \
             a namespace that no process is in, or opened exclusively by a program. \
             Nothing was changed.",
            users::name(number)
        ),
    )
    .advise("End that use, or name all devices of the file system, and try again."))
}

/// Returns the numbers of the block devices that a mounted file system is on.
fn devices_of(mount: &Mount) -> Vec<String> {
    let main = if mount.number.starts_with("0:") {
        mount.source_number()
    } else {
        Some(mount.number.clone())
    };
    let Some(main) = main else {
        return Vec::new();
    };
    let mut devices = match mount.kind.as_str() {
        "btrfs" => btrfs_devices(&main),
        _ => Vec::new(),
    };
    let others: Vec<_> = match mount.kind.as_str() {
        "xfs" => ["logdev", "rtdev"]
            .into_iter()
            .filter_map(|name| mount.number_of(Path::new(mount.option(name)?)))
            .collect(),
        kind if ext::is(kind) => ext::journal_device(&main).into_iter().collect(),
        _ => Vec::new(),
    };

    for number in others.into_iter().chain([main]) {
        if !devices.contains(&number) {
            devices.push(number);
        }
    }
    devices
}

/// Returns the numbers of all devices of the btrfs that one device belongs to.
fn btrfs_devices(number: &str) -> Vec<String> {
    users::entries(Path::new("/sys/fs/btrfs"))
        .map(|folder| {
            users::entries(&folder.join("devices"))
                .filter_map(|device| users::read(&device.join("dev")))
                .collect::<Vec<_>>()
        })
        .find(|devices| devices.iter().any(|device| device == number))
        .unwrap_or_default()
}
