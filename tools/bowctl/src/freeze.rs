// SPDX-License-Identifier: GPL-2.0

//! Freezing and trimming a mounted file system.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::syncfs;

use crate::error::{Code, CommandError, Result};
use crate::mount::Mount;

/// Discards all free space of the file system of a mount. Returns how many bytes, if `fstrim` says
/// so.
///
/// # Errors
///
/// The error of `fstrim`.
pub fn trim(mount: &Mount) -> Result<Option<u64>> {
    let mut command = match mount.process {
        None => Command::new("fstrim"),
        // It resolves paths, so that it has to be where the path is valid.
        Some(process) => {
            let mut nsenter = Command::new("nsenter");

            nsenter
                .arg("--target")
                .arg(process.to_string())
                .args(["--mount", "--root", "--", "fstrim"]);
            nsenter
        }
    };
    let text = run(command.arg("--verbose").arg(&mount.point))?;

    Ok(trimmed_bytes(&text))
}

/// Returns the number in `/mnt: 25.5 MiB (26738688 bytes) trimmed`.
fn trimmed_bytes(text: &str) -> Option<u64> {
    text.rsplit_once(" bytes)")?
        .0
        .rsplit_once('(')?
        .1
        .parse()
        .ok()
}

/// The script of the helper that thaws: if it is told a word it ends; if there is nothing more to
/// be told, because this process says so or because it is gone, it thaws. Its standard output is
/// the directory that is mounted, which needs no path.
const GUARD: &str = "read -r word || exec fsfreeze --unfreeze /proc/self/fd/1";

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
    /// Freezes the file system whose directory `root` is: it is made clean on disk, and writers
    /// wait. `shown` is where it is mounted, for messages.
    ///
    /// Returns `None` for one that cannot be frozen (vfat); it has been written out instead.
    ///
    /// # Errors
    ///
    /// The error of `fsfreeze`.
    pub fn new(root: &File, shown: &str) -> Result<Option<Self>> {
        let directory = || {
            root.try_clone()
                .map(Stdio::from)
                .map_err(|error| CommandError::io(shown, &error))
        };
        let guard = Command::new("sh")
            .args(["-c", GUARD])
            .stdin(Stdio::piped())
            .stdout(directory()?)
            .process_group(0)
            .spawn()
            .map_err(|error| CommandError::io("sh", &error))?;
        let frozen = Self { guard };
        let mut freeze = Command::new("fsfreeze");

        match run(freeze
            .args(["--freeze", "/proc/self/fd/0"])
            .stdin(directory()?))
        {
            Ok(_) => Ok(Some(frozen)),
            Err(failure) => {
                frozen.forget();
                if !failure.message.contains("not supported") {
                    return Err(CommandError {
                        message: format!("freezing {shown}: {}", failure.message),
                        ..failure
                    });
                }
                syncfs(root).map_err(|error| {
                    CommandError::io(format_args!("syncing {shown}"), &error.into())
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
            Ok(status) => Err(CommandError::new(
                Code::Failed,
                format!("fsfreeze: {status}"),
            )),
            Err(error) => Err(CommandError::io("fsfreeze", &error)),
        }
    }

    /// Ends the helper: there is nothing to thaw.
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
        CommandError::io(&name, &error).advise(format!("Install `{name}` (package util-linux)."))
    })?;

    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CommandError::new(
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

    /// The helper thaws when the pipe ends, and does nothing when told a word. (`test` stands for
    /// `fsfreeze`.)
    #[test]
    fn the_guard_thaws_unless_told_not_to() {
        let guard = |thaw: &str| Frozen {
            guard: Command::new("sh")
                .args(["-c", &GUARD.replace("fsfreeze --unfreeze", thaw)])
                .stdin(Stdio::piped())
                .stdout(File::open("/").unwrap())
                .process_group(0)
                .spawn()
                .unwrap(),
        };

        guard("test -d").thaw().unwrap();
        guard("test -f").thaw().unwrap_err();
        guard("test -f").forget();
    }
}
