// SPDX-License-Identifier: GPL-2.0

//! Checks of an updated system: programs in two directories, each with a time limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{memfd_create, MemfdFlags};
use rustix::process::{kill_process_group, Pid, Signal};

use super::update::FailedCheck;
use crate::users;

/// Directories of checks. A file in the first has precedence over one of the same name in the second; so a link to
/// /dev/null in the first leaves a check out.
pub const FOLDERS: [&str; 2] = ["/etc/bow/check", "/usr/lib/bow/check"];

/// Most bytes of what a check prints that are kept.
const OUTPUT_MAX: usize = 4096;

/// A check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its path.
    pub path: PathBuf,
    /// The new state is not kept if it fails.
    pub required: bool,
}

impl Check {
    fn name(&self) -> String {
        users::file_name(&self.path)
    }
}

/// Returns the checks of the directories, in the order of their names, those that are required first.
pub fn all(folders: &[&Path]) -> Vec<Check> {
    [("required.d", true), ("wanted.d", false)]
        .into_iter()
        .flat_map(|(name, required)| {
            let mut paths = BTreeMap::new();

            for folder in folders {
                for path in users::entries(&folder.join(name)) {
                    paths.entry(users::file_name(&path)).or_insert(path);
                }
            }
            paths
                .into_values()
                .filter(|path| is_program(path))
                .map(move |path| Check { path, required })
        })
        .collect()
}

/// Returns whether a path is a file that can be run.
fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Runs checks, and tells `said` of each result. Returns those that failed.
pub fn run(checks: &[Check], limit: Duration, mut said: impl FnMut(&str)) -> Vec<FailedCheck> {
    let mut failed = Vec::new();

    for check in checks {
        let (result, output) = one(&check.path, limit);

        match result {
            None => said(&format!("{}: passed", check.name())),
            Some(result) => {
                said(&format!("{}: {result}: {output}", check.name()));
                failed.push(FailedCheck {
                    name: check.name(),
                    required: check.required,
                    result,
                    output,
                });
            }
        }
    }
    failed
}

/// Runs a check. Returns how it failed, if it did, and what it printed.
fn one(path: &Path, limit: Duration) -> (Option<String>, String) {
    let result = || -> io::Result<(Option<String>, String)> {
        // A pipe could fill up, or be kept open by what the check leaves running.
        let output = temporary()?;
        let mut child = Command::new(path)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output.try_clone()?)
            .process_group(0)
            .spawn()?;
        let begun = Instant::now();

        let status = loop {
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if begun.elapsed() >= limit {
                if let Some(group) = Pid::from_raw(child.id() as i32) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                child.wait()?;
                break None;
            }
            sleep(Duration::from_millis(50));
        };
        Ok((failure(status, limit), printed(&output)?))
    };

    result().unwrap_or_else(|error| (Some(format!("cannot be run: {error}")), String::new()))
}

/// Returns how a check failed that ended with `status`, or did not end.
fn failure(status: Option<ExitStatus>, limit: Duration) -> Option<String> {
    match status {
        None => Some(format!("took longer than {} s", limit.as_secs())),
        Some(status) => (!status.success()).then(|| status.to_string()),
    }
}

/// Makes a file that has no name.
fn temporary() -> io::Result<File> {
    Ok(memfd_create("bow-check", MemfdFlags::CLOEXEC)?.into())
}

/// Returns the end of what was printed to a file.
fn printed(file: &File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(OUTPUT_MAX as u64);
    let mut bytes = vec![0; (length - start) as usize];

    file.read_exact_at(&mut bytes, start)?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Mutex, PoisonError};

    use super::*;

    /// Held by a test: what one of them writes must not be open, in a child that another forks, when it is run.
    static ALONE: Mutex<()> = Mutex::new(());

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();

        for (name, script) in files {
            let path = folder.path().join(name);

            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    fn failed(files: &[(&str, &str)], limit: Duration) -> Vec<FailedCheck> {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = folder(files);

        run(&all(&[folder.path()]), limit, |_| ())
    }

    #[test]
    fn all_checks_are_run_and_all_failures_told() {
        let failed = failed(
            &[
                ("required.d/1", "exit 0"),
                ("required.d/2", "echo two; echo 2 >&2; exit 3"),
                ("required.d/3", "exit 1"),
                ("wanted.d/4", "echo four; kill -9 $$"),
            ],
            Duration::from_secs(60),
        );
        let names: Vec<_> = failed
            .iter()
            .map(|check| (check.name.as_str(), check.required))
            .collect();

        assert_eq!(names, [("2", true), ("3", true), ("4", false)]);
        assert_eq!(failed[0].output, "two\n2");
        assert!(failed[0].result.contains('3'));
        assert!(failed[2].result.contains("signal"));
    }

    #[test]
    fn a_check_that_takes_too_long_fails() {
        let failed = failed(
            &[("required.d/1", "echo begun; sleep 600")],
            Duration::from_secs(3),
        );

        assert_eq!(failed.len(), 1);
        assert!(failed[0].result.starts_with("took longer"));
        assert_eq!(failed[0].output, "begun");
    }

    #[test]
    fn the_first_directory_has_precedence() {
        let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let first = folder(&[("required.d/1", "exit 0")]);
        let second = folder(&[
            ("required.d/1", "exit 1"),
            ("required.d/2", "exit 1"),
            ("wanted.d/3", "exit 1"),
        ]);

        std::os::unix::fs::symlink("/dev/null", first.path().join("required.d/2")).unwrap();
        fs::write(first.path().join("required.d/README"), "no program").unwrap();
        let checks = all(&[first.path(), second.path()]);
        let paths: Vec<_> = checks.iter().map(|check| check.path.clone()).collect();

        assert_eq!(
            paths,
            [
                first.path().join("required.d/1"),
                second.path().join("wanted.d/3")
            ]
        );
    }

    #[test]
    fn only_the_end_of_long_output_is_kept() {
        let failed = failed(
            &[(
                "required.d/1",
                "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 1",
            )],
            Duration::from_secs(60),
        );

        assert!(failed[0].output.len() <= OUTPUT_MAX);
        assert!(failed[0].output.ends_with("line 1999"));
    }
}
