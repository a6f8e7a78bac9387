// SPDX-License-Identifier: GPL-2.0

//! Mounted file systems: where a device is mounted, trimming, freezing.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::syncfs;

use crate::failure::{Code, Failure, Result};
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

/// Discards all free space of the file system mounted on `point`. Returns how many bytes, if
/// `fstrim` says so.
///
/// # Errors
///
/// What `fstrim` says.
pub fn trim(point: &Path) -> Result<Option<u64>> {
    let mut fstrim = Command::new("fstrim");
    let text = run(fstrim.arg("--verbose").arg(point))?;

    Ok(trimmed_bytes(&text))
}

/// The number in «/mnt: 25.5 MiB (26738688 bytes) trimmed».
fn trimmed_bytes(text: &str) -> Option<u64> {
    text.rsplit_once(" bytes)")?
        .0
        .rsplit_once('(')?
        .1
        .parse()
        .ok()
}

/// What the helper does that thaws: if it is told a word it ends; if there is nothing more to be
/// told, because this process says so or because it is gone, it thaws.
const GUARD: &str = r#"read -r word || exec fsfreeze --unfreeze "$1""#;

/// A frozen file system.
///
/// It is thawed when this is dropped, and also if this process is killed in between: a helper that
/// is started beforehand waits for the end of a pipe, in a process group of its own, so that
/// signals of a terminal do not reach it.
#[derive(Debug)]
pub struct Frozen {
    guard: Child,
}

impl Frozen {
    /// Freezes the file system mounted on `point`: it is made clean on disk, and writers wait.
    ///
    /// Returns `None` for one that cannot be frozen (vfat); it has been written out instead.
    ///
    /// # Errors
    ///
    /// What `fsfreeze` says.
    pub fn new(point: &Path) -> Result<Option<Self>> {
        let guard = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(point)
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io("sh", &error))?;
        let frozen = Self { guard };

        match run(Command::new("fsfreeze").arg("--freeze").arg(point)) {
            Ok(_) => Ok(Some(frozen)),
            Err(failure) => {
                frozen.forget();
                if !failure.message.contains("not supported") {
                    return Err(failure);
                }
                File::open(point)
                    .and_then(|root| Ok(syncfs(root)?))
                    .map_err(|error| {
                        Failure::io(format_args!("syncing {}", point.display()), &error)
                    })?;
                Ok(None)
            }
        }
    }

    /// Thaws the file system.
    ///
    /// # Errors
    ///
    /// If `fsfreeze` fails, which has said why.
    pub fn thaw(mut self) -> Result {
        drop(self.guard.stdin.take());
        match self.guard.wait() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(Failure::new(Code::Failed, format!("fsfreeze: {status}"))),
            Err(error) => Err(Failure::io("fsfreeze", &error)),
        }
    }

    /// There is nothing to thaw.
    fn forget(mut self) {
        if let Some(mut pipe) = self.guard.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.guard.wait();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}

/// Runs a command of util-linux. Returns what it printed.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").output().map_err(|error| {
        Failure::io(&name, &error).advise(format!("Install `{name}` (package util-linux)."))
    })?;

    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Failure::new(
        Code::Failed,
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fstrim_is_understood() {
        let text = "/mnt: 25.5 MiB (26738688 bytes) trimmed on /dev/dm-0\n";

        assert_eq!(trimmed_bytes(text), Some(26_738_688));
        assert_eq!(trimmed_bytes("/mnt: 0 B (0 bytes) trimmed"), Some(0));
        assert_eq!(trimmed_bytes(""), None);
    }

    /// The helper thaws when the pipe ends, and does nothing when told a word. (`exec` finds no
    /// file system where there is none, and fails.)
    #[test]
    fn the_guard_thaws_unless_told_not_to() {
        let guard = |script: &str| Frozen {
            guard: Command::new("sh")
                .args([
                    "-c",
                    &script.replace("fsfreeze --unfreeze", "test -d"),
                    "sh",
                    "/",
                ])
                .stdin(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap(),
        };

        guard(GUARD).thaw().unwrap();
        guard(&GUARD.replace("$1", "/missing")).thaw().unwrap_err();
        guard(&GUARD.replace("$1", "/missing")).forget();
    }

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
