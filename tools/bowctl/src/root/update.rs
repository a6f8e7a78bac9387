// SPDX-License-Identifier: GPL-2.0

//! An update of the root file system that is under way, and the history of those that have ended.
//!
//! All is kept in files on the root file system itself, which the update may roll back. So each file says on which
//! side of the checkpoint it was written:
//!
//! - `pending.json` is written before the checkpoint, and once more after it, where it says so. When no checkpoint is
//!   open any more, the file that is found tells which state was kept: the old file has come back with the old state.
//! - `failed.jsonl` is written to the new state when a boot on trial goes wrong. The initramfs reads it before a
//!   restore. On the EFI system partition it is what the root file system did not take, being read-only.
//! - `report.json` is written by the initramfs to the old state after a restore.
//! - `history.jsonl` gets a line when all is over.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::packages::Database;
use super::{marks, STATE};
use crate::error::{CommandError, Result};

/// Most bytes of a file that are read.
const MOST: u64 = 1 << 20;

/// Name of the file of what went wrong.
const FAILED: &str = "failed.jsonl";

/// An update that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Seconds since the epoch at which it began.
    pub begun: u64,
    /// The command.
    pub command: Vec<String>,
    /// The kernel's release at that time.
    pub kernel: String,
    /// The checkpoint was taken by apt's hook, which is called once more after the upgrade.
    pub by_apt: bool,
    /// This was written after the checkpoint: it is part of the new state.
    pub is_new: bool,
    /// dpkg's database at that time.
    #[serde(default)]
    pub database: Option<Database>,
}

/// Something that went wrong in the new state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Seconds since the epoch.
    pub time: u64,
    /// The kernel's release.
    pub kernel: String,
    /// Number of the boot of the new state that this was, from 1 on; none before the first.
    #[serde(default)]
    pub boot: Option<u8>,
    /// The reason.
    pub reason: String,
    /// The checks that failed.
    #[serde(default)]
    pub checks: Vec<FailedCheck>,
}

impl Failure {
    /// Describes what has gone wrong now, under the kernel that runs.
    pub fn now(reason: String, checks: Vec<FailedCheck>) -> Self {
        Self {
            time: now(),
            kernel: kernel(),
            boot: marks::trial(),
            reason,
            checks,
        }
    }
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedCheck {
    /// Its name.
    pub name: String,
    /// The new state is not kept because of it.
    pub required: bool,
    /// Its end, in words.
    pub result: String,
    /// The end of what it printed.
    pub output: String,
}

/// Report of the initramfs on a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Seconds since the epoch.
    pub time: u64,
    /// The checkpoint's UUID.
    pub uuid: Option<String>,
    /// The reason.
    pub reason: String,
    /// Number of boots of the new state.
    pub boots: u8,
    /// Failures in the new state, as far as they could be read.
    pub failures: Vec<Failure>,
}

/// Result of an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The new state was kept.
    Committed,
    /// The old state is back.
    RolledBack,
}

/// An update that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Seconds since the epoch at which it began.
    pub begun: u64,
    /// Seconds since the epoch at which it ended, or at which that was noticed.
    pub ended: u64,
    /// The command.
    pub command: Vec<String>,
    /// The device.
    pub device: String,
    /// The result.
    pub outcome: Outcome,
    /// The reason.
    pub reason: String,
    /// Number of boots of the new state.
    pub boots: Option<u8>,
    /// Failures in the new state.
    pub failures: Vec<Failure>,
}

/// The files, in their directory.
#[derive(Clone, Debug)]
pub struct Records(PathBuf);

impl Default for Records {
    fn default() -> Self {
        Self(STATE.into())
    }
}

impl Records {
    /// Returns those of the root file system that is mounted at `root`.
    pub fn of(root: &Path) -> Self {
        Self(root.join(STATE.trim_start_matches('/')))
    }

    /// Returns those that are kept in a directory.
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Returns the update that is under way.
    pub fn pending(&self) -> Option<Pending> {
        serde_json::from_str(&self.text("pending.json")?).ok()
    }

    /// Writes the update that is under way.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn set_pending(&self, pending: &Pending) -> Result {
        self.write("pending.json", pending)
    }

    /// Notes what went wrong.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn add_failure(&self, failure: &Failure) -> Result {
        self.append(FAILED, failure)
    }

    /// Returns what went wrong, as far as that can be read.
    pub fn failures(&self) -> Vec<Failure> {
        lines(&self.end_of(FAILED).unwrap_or_default())
    }

    /// Forgets what went wrong.
    pub fn forget_failures(&self) {
        let _ = fs::remove_file(self.path(FAILED));
    }

    /// Writes the report on a restore.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn set_report(&self, report: &Report) -> Result {
        self.write("report.json", report)
    }

    /// Returns the report on a restore.
    pub fn report(&self) -> Option<Report> {
        serde_json::from_str(&self.text("report.json")?).ok()
    }

    /// Adds to the history.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn add(&self, ended: &Ended) -> Result {
        self.append("history.jsonl", ended)
    }

    /// Returns the history, oldest first.
    pub fn history(&self) -> Vec<Ended> {
        lines(&self.end_of("history.jsonl").unwrap_or_default())
    }

    /// Ends the update that is under way, when no checkpoint is open any more. Returns how it ended; `None` if none
    /// was under way. `more` is what went wrong and was written down elsewhere.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn settle(&self, device: &str, reason: &str, more: Vec<Failure>) -> Result<Option<Ended>> {
        let Some(pending) = self.pending() else {
            return Ok(None);
        };
        let mut ended = ended(pending, self.report(), self.failures(), device, reason);

        ended.failures.extend(more);

        self.add(&ended)?;
        self.forget();
        Ok(Some(ended))
    }

    /// Removes what is kept about an update that is under way.
    pub fn forget(&self) {
        for name in [
            FAILED,
            "report.json",
            "failed-units",
            "had-route",
            "pending.json",
        ] {
            let _ = fs::remove_file(self.path(name));
        }
        let _ = File::open(&self.0).and_then(|folder| folder.sync_all());
    }

    /// Writes a file of text for the checks.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn note(&self, name: &str, text: &str) -> Result {
        self.replace(name, text)
            .map_err(|error| CommandError::io(self.path(name).display(), &error))
    }

    fn text(&self, name: &str) -> Option<String> {
        let path = self.path(name);

        (path.metadata().ok()?.len() <= MOST).then_some(())?;
        Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
    }

    /// Returns the last lines of a file, as many as fit.
    fn end_of(&self, name: &str) -> Option<String> {
        let mut file = File::open(self.path(name)).ok()?;
        let skipped = file.metadata().ok()?.len().saturating_sub(MOST);
        let mut bytes = Vec::new();

        file.seek(SeekFrom::Start(skipped)).ok()?;
        file.read_to_end(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes);
        let whole = match skipped {
            0 => &text,
            _ => text.split_once('\n')?.1,
        };
        Some(whole.to_owned())
    }

    fn write(&self, name: &str, value: &impl Serialize) -> Result {
        serde_json::to_string_pretty(value)
            .map_err(io::Error::from)
            .and_then(|text| self.replace(name, &(text + "\n")))
            .map_err(|error| CommandError::io(self.path(name).display(), &error))
    }

    /// Replaces a file as a whole, durably.
    fn replace(&self, name: &str, text: &str) -> io::Result<()> {
        let new = self.path(&format!("{name}.new"));

        fs::create_dir_all(&self.0)?;
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, self.path(name))?;
        File::open(&self.0)?.sync_all()
    }

    fn append(&self, name: &str, value: &impl Serialize) -> Result {
        let add = || -> io::Result<()> {
            fs::create_dir_all(&self.0)?;
            let mut line = serde_json::to_string(value)?;
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(self.path(name))?;

            line.push('\n');
            file.write_all(line.as_bytes())?;
            file.sync_all()
        };

        add().map_err(|error| CommandError::io(self.path(name).display(), &error))
    }
}

/// Reads lines of JSON. One that cannot be read, as the last one after a power cut, is passed over.
fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> Vec<T> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Returns how an update has ended, when no checkpoint is open any more.
fn ended(
    pending: Pending,
    report: Option<Report>,
    failures: Vec<Failure>,
    device: &str,
    reason: &str,
) -> Ended {
    let (outcome, reason, boots, failures) = match (pending.is_new, report) {
        (true, _) => (Outcome::Committed, reason.to_owned(), None, failures),
        (false, Some(report)) => (
            Outcome::RolledBack,
            report.reason,
            Some(report.boots),
            report.failures,
        ),
        (false, None) => (
            Outcome::RolledBack,
            "not known: the restore left no report".to_owned(),
            None,
            Vec::new(),
        ),
    };

    Ended {
        begun: pending.begun,
        ended: now(),
        command: pending.command,
        device: device.to_owned(),
        outcome,
        reason,
        boots,
        failures,
    }
}

/// Returns the seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs())
}

/// Returns the release of the kernel that runs.
pub fn kernel() -> String {
    rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> (tempfile::TempDir, Records) {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::of(folder.path());

        (folder, records)
    }

    fn pending(is_new: bool) -> Pending {
        Pending {
            begun: 17,
            command: vec!["apt".to_owned(), "full-upgrade".to_owned()],
            kernel: "6".to_owned(),
            by_apt: false,
            database: None,
            is_new,
        }
    }

    fn failure(reason: &str) -> Failure {
        Failure {
            time: 18,
            boot: None,
            kernel: "7".to_owned(),
            reason: reason.to_owned(),
            checks: Vec::new(),
        }
    }

    #[test]
    fn without_an_update_there_is_nothing_to_settle() {
        let (_folder, records) = records();

        assert_eq!(records.settle("d", "healthy", Vec::new()).unwrap(), None);
        assert_eq!(records.history(), []);
    }

    /// The newest are there, however many there were.
    #[test]
    fn a_history_that_is_too_long_is_read_from_its_end() {
        let (_folder, records) = records();
        let path = records.path("history.jsonl");
        let update = |command: &str| Ended {
            begun: 1,
            ended: 2,
            command: vec![command.to_owned()],
            device: "d".to_owned(),
            outcome: Outcome::Committed,
            reason: "healthy".to_owned(),
            boots: None,
            failures: Vec::new(),
        };

        for command in ["a", "b"] {
            records.add(&update(&command.repeat(700_000))).unwrap();
        }
        records.add(&update("c")).unwrap();
        assert!(path.metadata().unwrap().len() > MOST);
        let commands: Vec<_> = records
            .history()
            .into_iter()
            .map(|update| update.command[0][..1].to_owned())
            .collect();
        assert_eq!(commands, ["b", "c"]);
    }

    /// The file of before the checkpoint has come back, and so has all else.
    #[test]
    fn the_old_file_means_a_rollback() {
        let (_folder, records) = records();

        records.set_pending(&pending(false)).unwrap();
        let ended = records.settle("d", "healthy", Vec::new()).unwrap().unwrap();
        assert_eq!(ended.outcome, Outcome::RolledBack);
        assert!(ended.reason.contains("not known"));

        records.set_pending(&pending(false)).unwrap();
        records
            .set_report(&Report {
                time: 19,
                uuid: None,
                reason: "three boots".to_owned(),
                boots: 3,
                failures: vec![failure("a check")],
            })
            .unwrap();
        let elsewhere = vec![failure("kept elsewhere")];
        let ended = records.settle("d", "healthy", elsewhere).unwrap().unwrap();
        assert_eq!(ended.reason, "three boots");
        assert_eq!(ended.boots, Some(3));
        assert_eq!(
            ended.failures,
            [failure("a check"), failure("kept elsewhere")]
        );
        assert_eq!(records.settle("d", "healthy", Vec::new()).unwrap(), None);
        assert_eq!(records.report(), None);
        assert_eq!(records.history().len(), 2);
    }

    #[test]
    fn the_new_file_means_a_commit() {
        let (_folder, records) = records();

        records.set_pending(&pending(false)).unwrap();
        records.set_pending(&pending(true)).unwrap();
        records.add_failure(&failure("a wanted check")).unwrap();
        let ended = records.settle("d", "healthy", Vec::new()).unwrap().unwrap();

        assert_eq!(ended.outcome, Outcome::Committed);
        assert_eq!(ended.reason, "healthy");
        assert_eq!(ended.failures, [failure("a wanted check")]);
        assert_eq!(records.failures(), []);
        assert_eq!(records.history(), [ended]);
    }

    /// A power cut may leave half of a line.
    #[test]
    fn half_a_line_is_passed_over() {
        let (folder, records) = records();

        records.add_failure(&failure("first")).unwrap();
        let path = folder.path().join("var/lib/bow/failed.jsonl");
        let mut text = fs::read(&path).unwrap();
        text.extend(b"{\"time\": 1, \"ker");
        fs::write(&path, text).unwrap();
        assert_eq!(records.failures(), [failure("first")]);
    }
}
