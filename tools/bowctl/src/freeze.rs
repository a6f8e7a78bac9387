// SPDX-License-Identifier: GPL-2.0

//! Freezing a mounted file system.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::syncfs;

use crate::error::{Code, CommandError, Result};

/// The script of the helper that freezes, says so, and thaws when there is nothing more to be told, because this
/// process says so or because it is gone. Its standard output is the directory that is mounted, which needs no path.
///
/// A freeze cannot be interrupted, so that one that a signal seems to have ended may come all the same. The helper and
/// what it runs are deaf to signals, and it is the helper that freezes: so it is there when the freeze has come.
const HELPER: &str = "trap '' HUP INT QUIT PIPE TERM TSTP
fsfreeze --freeze /proc/self/fd/1 || exit
echo frozen >&2
read -r word
exec fsfreeze --unfreeze /proc/self/fd/1";

/// A frozen file system.
///
/// It is thawed when this is dropped, and also if this process is killed in between: a helper waits for the end of a
/// pipe, in a process group of its own, so that signals of a terminal do not reach it.
#[derive(Debug)]
pub struct Frozen {
    /// Ends when the pipe to it is closed. `None` when it has ended.
    helper: Option<Child>,
    /// Directory of the file system.
    root: File,
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
        let failed = |what: &str| {
            CommandError::new(Code::Failed, format!("freezing {shown}: {}", what.trim()))
        };

        match Self::by(HELPER, root, shown)? {
            Ok(frozen) => Ok(Some(frozen)),
            Err(said) if said.contains("not supported") => {
                syncfs(root).map_err(|error| {
                    CommandError::io(format_args!("syncing {shown}"), &error.into())
                })?;
                Ok(None)
            }
            Err(said) if said.contains("not found") => {
                Err(failed(&said).advise("Install `fsfreeze` (package util-linux)."))
            }
            Err(said) => Err(failed(&said)),
        }
    }

    /// Starts the helper, and waits until it has frozen the file system. Otherwise returns what it said.
    fn by(script: &str, root: &File, shown: &str) -> Result<std::result::Result<Self, String>> {
        let directory = || {
            root.try_clone()
                .map_err(|error| CommandError::io(shown, &error))
        };
        let mut helper = Command::new("sh")
            .args(["-c", script])
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(directory()?)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| CommandError::io("sh", &error))?;
        let says = helper.stderr.take();
        // From here on the helper is waited for, whatever comes.
        let mut frozen = Self {
            helper: Some(helper),
            root: directory()?,
        };
        let mut said = String::new();

        for line in says
            .into_iter()
            .flat_map(|says| BufReader::new(says).lines())
        {
            let line = line.map_err(|error| CommandError::io("sh", &error))?;

            if line == "frozen" {
                return Ok(Ok(frozen));
            }
            said.push_str(&line);
            said.push('\n');
        }
        // It has not frozen, so that there is nothing to thaw.
        if let Some(mut helper) = frozen.helper.take() {
            let _ = helper.wait();
        }
        Ok(Err(said))
    }

    /// Thaws the file system.
    ///
    /// # Errors
    ///
    /// If `fsfreeze` fails.
    pub fn thaw(mut self) -> Result {
        self.end()
    }

    fn end(&mut self) -> Result {
        let Some(mut helper) = self.helper.take() else {
            return Ok(());
        };

        drop(helper.stdin.take());
        match helper.wait() {
            Ok(status) if status.success() => Ok(()),
            // Killed, perhaps.
            _ => self
                .root
                .try_clone()
                .map_err(|error| CommandError::io("fsfreeze", &error))
                .and_then(|root| {
                    run(Command::new("fsfreeze")
                        .args(["--unfreeze", "/proc/self/fd/0"])
                        .stdin(root))
                }),
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// Runs a command of util-linux.
fn run(command: &mut Command) -> Result {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.env("LC_ALL", "C").output().map_err(|error| {
        CommandError::io(&name, &error).advise(format!("Install `{name}` (package util-linux)."))
    })?;

    if output.status.success() {
        return Ok(());
    }
    Err(CommandError::new(
        Code::Failed,
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what comes of a helper for which `freeze` and `thaw` stand for the two calls of `fsfreeze`.
    fn frozen(freeze: &str, thaw: &str) -> std::result::Result<Frozen, String> {
        let script = HELPER
            .replace("fsfreeze --freeze", freeze)
            .replace("exec fsfreeze --unfreeze", thaw);

        assert_ne!(script, HELPER);
        Frozen::by(&script, &File::open("/").unwrap(), "/").unwrap()
    }

    #[test]
    fn the_helper_thaws_when_the_pipe_ends() {
        frozen("test -d", "test -d").unwrap().thaw().unwrap();
        let said = frozen("echo cannot >&2; test -f", "exit 1;").unwrap_err();
        assert_eq!(said, "cannot\n");
    }

    /// A signal that comes while it freezes does not keep it from thawing.
    #[test]
    fn the_helper_is_deaf_to_signals() {
        let folder = tempfile::tempdir().unwrap();
        let thawed = folder.path().join("thawed");
        let freeze = "kill -INT $$; kill -TERM $$; kill -HUP $$; sh -c 'kill -INT $$'; test -d";

        frozen(freeze, &format!("touch {} && test -d", thawed.display()))
            .unwrap()
            .thaw()
            .unwrap();
        assert!(thawed.exists());
    }

    /// A helper that was killed cannot thaw any more: this process does, which here fails, since nothing is frozen.
    #[test]
    fn a_helper_that_was_killed_is_stood_in_for() {
        frozen("test -d", "kill -KILL $$;")
            .unwrap()
            .thaw()
            .unwrap_err();
    }
}
