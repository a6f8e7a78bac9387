// SPDX-License-Identifier: GPL-2.0

//! Partition of the root file system, which is known by its PARTUUID.

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::device::{Access, FileDevice};
use crate::error::{complain, Code, CommandError, Result};
use crate::recovery::{self, RecoveryError};
use crate::users;

/// Returns the node of the partition with a PARTUUID, which may not be there yet when a machine starts. Returns none,
/// and says so, if there is no such partition, or more than one, as with a copy of the disk.
///
/// # Errors
///
/// If there is more than one, and a checkpoint is open on one of them, which cannot be mounted without dm-bow.
pub fn find(partition: &str, patience: Duration) -> Result<Option<PathBuf>> {
    let found = wait(partition, patience);

    if let [only] = &found[..] {
        return Ok(Some(only.clone()));
    }
    let shown = if found.is_empty() {
        "no partition has".to_owned()
    } else {
        let nodes: Vec<_> = found
            .iter()
            .map(|node| node.display().to_string())
            .collect();

        format!("{} have", nodes.join(" and "))
    };
    let shown = format!("{shown} the PARTUUID {partition} of the root file system");

    for node in &found {
        let log = FileDevice::open(node, Access::Look).map(|device| recovery::header(&device));

        if !matches!(log, Ok(Err(RecoveryError::NoLog))) {
            return Err(CommandError::new(
                Code::Undecided,
                format!(
                    "{shown}, and there may be a checkpoint on {}",
                    node.display()
                ),
            )
            .advise("Disconnect the disk that is a copy, and reboot."));
        }
    }
    complain!("bow: {shown}: booting without dm-bow");
    Ok(None)
}

/// Waits until there is a partition with that PARTUUID. Returns the nodes of all that there are.
fn wait(partition: &str, patience: Duration) -> Vec<PathBuf> {
    let begun = Instant::now();

    loop {
        let mut found = by_kernel(partition);

        if found.is_empty() {
            found.extend(by_link(partition));
        }
        if !found.is_empty() || begun.elapsed() >= patience {
            return found;
        }
        sleep(Duration::from_millis(100));
    }
}

/// Returns the nodes of partitions by what the kernel itself says of partitions (since 6.14).
fn by_kernel(partition: &str) -> Vec<PathBuf> {
    users::entries(Path::new("/sys/class/block"))
        .filter(|folder| {
            uuid_by_kernel(folder).is_some_and(|found| found.eq_ignore_ascii_case(partition))
        })
        .map(|folder| Path::new("/dev").join(users::file_name(&folder)))
        .filter(|node| node.exists())
        .collect()
}

/// Returns what the kernel says of the partition with a folder in sysfs.
fn uuid_by_kernel(folder: &Path) -> Option<String> {
    users::read(&folder.join("uevent"))?
        .lines()
        .find_map(|line| line.strip_prefix("PARTUUID="))
        .map(str::to_ascii_lowercase)
}

/// Returns the node of a partition by the link that udev makes.
fn by_link(partition: &str) -> Option<PathBuf> {
    Path::new("/dev/disk/by-partuuid")
        .join(partition)
        .canonicalize()
        .ok()
}

/// Returns the PARTUUID of the partition of a number (`major:minor`), if no other has the same: not that of a disk
/// without a signature, which the kernel makes of zeroes, nor where a copy of the disk is connected.
pub fn uuid(number: &str) -> Option<String> {
    let by_link = || {
        users::entries(Path::new("/dev/disk/by-partuuid"))
            .find(|link| users::number(link).as_deref() == Some(number))
            .map(|link| users::file_name(&link))
    };

    uuid_by_kernel(&users::sysfs(number))
        .or_else(by_link)
        .filter(|partition| !partition.starts_with("00000000-") && by_kernel(partition).len() < 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_waited_for() {
        let begun = Instant::now();

        assert_eq!(
            find("no-such-partition", Duration::from_millis(250)).unwrap(),
            None
        );
        assert!(begun.elapsed() >= Duration::from_millis(250));
    }
}
