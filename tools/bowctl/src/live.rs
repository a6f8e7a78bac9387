// SPDX-License-Identifier: GPL-2.0

//! Live device-mapper devices with a bow target.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use bow_decisions::log::SECTOR_SIZE;
use bow_decisions::state::State;

use crate::error::{Code, CommandError, Result};
use crate::mount;
use crate::users;

/// A live device with a bow target.
#[derive(Clone, Debug)]
pub struct Live {
    /// The device-mapper name.
    pub name: String,
    /// The kernel's name, `dm-3`.
    pub node: String,
    /// Device number, `major:minor`.
    pub number: String,
    sysfs: PathBuf,
}

impl Live {
    /// Returns all live bow devices.
    pub fn all() -> Vec<Self> {
        users::entries(Path::new("/sys/block"))
            .filter_map(|sysfs| Self::at(&sysfs))
            .collect()
    }

    /// Finds one by its device-mapper name, its device node, or where it is mounted.
    pub fn find(target: &Path) -> Option<Self> {
        let by_name = || {
            Self::all()
                .into_iter()
                .find(|live| Path::new(&live.name) == target)
        };
        let by_node = || Self::at(&users::sysfs(&users::number(target)?));
        let by_mount = || Self::at(&users::sysfs(&mount::number_at(target)?));

        by_name().or_else(by_node).or_else(by_mount)
    }

    /// Finds one, or says what was looked for.
    ///
    /// # Errors
    ///
    /// [`Code::Failed`] if there is none.
    pub fn get(target: &Path) -> Result<Self> {
        Self::find(target).ok_or_else(|| {
            let names: Vec<_> = Self::all().into_iter().map(|live| live.name).collect();
            let advice = match names.as_slice() {
                [] => "There are none; `bowctl create` makes one.".to_owned(),
                names => format!("There are: {}.", names.join(", ")),
            };

            CommandError::new(
                Code::Failed,
                format!(
                    "{}: not the name, the device node or the mount point of a live bow device",
                    target.display()
                ),
            )
            .advise(advice)
        })
    }

    fn at(sysfs: &Path) -> Option<Self> {
        let sysfs = sysfs.canonicalize().ok()?;

        sysfs.join("bow").is_dir().then_some(())?;
        Some(Self {
            name: users::read(&sysfs.join("dm/name"))?,
            node: users::file_name(&sysfs),
            number: users::read(&sysfs.join("dev"))?,
            sysfs,
        })
    }

    fn attribute(&self, name: &str) -> Result<String> {
        let path = self.sysfs.join(name);

        fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| CommandError::io(path.display(), &error))
    }

    fn unexpected(&self, name: &str, text: &str) -> CommandError {
        CommandError::new(
            Code::Failed,
            format!("{}: {name} reads \"{text}\"", self.sysfs.display()),
        )
    }

    /// Returns the state.
    ///
    /// # Errors
    ///
    /// If sysfs cannot be read.
    pub fn state(&self) -> Result<State> {
        let text = self.attribute("bow/state")?;

        State::from_text(text.as_bytes()).ok_or_else(|| self.unexpected("bow/state", &text))
    }

    /// Commits the checkpoint.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn commit(&self) -> Result {
        let name = &self.name;

        self.set_state(State::Committed).map_err(|error| {
            CommandError::io(format_args!("{name}: committing"), &error)
                .advise("The kernel's log says why (`dmesg | tail`).")
        })
    }

    /// Changes the state.
    ///
    /// # Errors
    ///
    /// The kernel's error.
    pub fn set_state(&self, state: State) -> io::Result<()> {
        fs::write(self.sysfs.join("bow/state"), state.number().to_string())
    }

    /// Sends a message to the target.
    ///
    /// # Errors
    ///
    /// The error of `dmsetup`.
    pub fn message(&self, words: &[&str]) -> Result {
        let mut args = vec!["message", &self.name, "0"];

        args.extend(words);
        dmsetup(&args)
            .map(|_| ())
            .map_err(|failure| failure.advise("The kernel's log says why (`dmesg | tail`)."))
    }

    /// Returns the number of events that the target has raised.
    ///
    /// # Errors
    ///
    /// The error of `dmsetup`.
    pub fn events(&self) -> Result<u32> {
        let text = dmsetup(&["info", "-c", "--noheadings", "-o", "events", &self.name])?;

        text.trim()
            .parse()
            .map_err(|_| self.unexpected("the number of events", &text))
    }

    /// Waits until the target has raised more events than `events`.
    ///
    /// # Errors
    ///
    /// The error of `dmsetup`.
    pub fn wait(&self, events: u32) -> Result {
        dmsetup(&["wait", &self.name, &events.to_string()]).map(|_| ())
    }

    /// Returns the free space that is left, in bytes.
    ///
    /// # Errors
    ///
    /// If sysfs cannot be read.
    pub fn free(&self) -> Result<u64> {
        let text = self.attribute("bow/free")?;

        text.parse().map_err(|_| self.unexpected("bow/free", &text))
    }

    /// Returns the size in bytes.
    ///
    /// # Errors
    ///
    /// If sysfs cannot be read.
    pub fn size(&self) -> Result<u64> {
        let text = self.attribute("size")?;
        let sectors: u64 = text.parse().map_err(|_| self.unexpected("size", &text))?;

        Ok(sectors.saturating_mul(SECTOR_SIZE as u64))
    }

    /// Returns the underlying devices, by their kernel names.
    pub fn slaves(&self) -> Vec<String> {
        users::entries(&self.sysfs.join("slaves"))
            .map(|path| users::file_name(&path))
            .collect()
    }

    /// Returns the node of the underlying device.
    pub fn underlying(&self) -> Option<PathBuf> {
        let below = users::entries(&self.sysfs.join("slaves")).next()?;

        users::node(&users::read(&below.join("dev"))?)
    }

    /// Returns whether an underlying device takes discards.
    pub fn discards_below(&self) -> bool {
        users::entries(&self.sysfs.join("slaves")).any(|below| {
            // A partition has the queue of its disk.
            ["queue", "../queue"].iter().any(|queue| {
                below
                    .canonicalize()
                    .ok()
                    .and_then(|below| users::read(&below.join(queue).join("discard_max_bytes")))
                    .is_some_and(|bytes| bytes != "0")
            })
        })
    }

    /// Returns the mount points, each once: a service with a mount namespace of its own sees a copy
    /// of each mount.
    pub fn mount_points(&self) -> Vec<String> {
        let mut points = HashSet::new();

        mount::of(&self.number)
            .filter(|mount| points.insert(mount.point.clone()))
            .map(|mount| mount.shown())
            .collect()
    }

    /// Returns the figures of the target's status line, if `dmsetup` can be run.
    pub fn figures(&self) -> Option<Figures> {
        Figures::parse(&self.target_status()?)
    }

    /// Returns the policy for free space that runs out, if `dmsetup` can be run.
    pub fn on_full(&self) -> Option<String> {
        self.dmsetup_line("table")?
            .split_whitespace()
            .find_map(|word| word.strip_prefix("on_full:"))
            .map(str::to_owned)
    }

    /// Returns the table line, if `dmsetup` can be run.
    pub fn table(&self) -> Option<String> {
        self.dmsetup_line("table")
    }

    /// Returns the target's own status line, if `dmsetup` can be run.
    pub fn target_status(&self) -> Option<String> {
        self.dmsetup_line("status")
    }

    /// Returns what `dmsetup` prints about the device.
    fn dmsetup_line(&self, command: &str) -> Option<String> {
        Some(dmsetup(&[command, &self.name]).ok()?.trim().to_owned())
    }
}

/// Figures of the target's status line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// Unit of backup in bytes.
    pub block_size: u64,
    /// Sectors that backups and full log blocks take, in state 1.
    pub backup: u64,
    /// `ok`, `full` or `failed`.
    pub condition: String,
}

impl Figures {
    /// Reads a status line. Later versions of the target may have more fields at its end.
    fn parse(line: &str) -> Option<Self> {
        // After start, length and target: state, block_size, free, writable, backup, sequence,
        // entries, moved, ranges, error.
        let fields: Vec<_> = line.split_whitespace().skip(3).collect();

        Some(Self {
            block_size: fields.get(1)?.parse().ok()?,
            backup: fields.get(4)?.parse().ok()?,
            condition: (*fields.get(9)?).to_owned(),
        })
    }
}

/// Runs `dmsetup`, and returns what it prints.
fn dmsetup(args: &[&str]) -> Result<String> {
    let output = Command::new("dmsetup")
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| {
            CommandError::io("dmsetup", &error).advise("Install `dmsetup` (package dmsetup).")
        })?;

    if !output.status.success() {
        return Err(CommandError::new(
            Code::Failed,
            format!(
                "dmsetup {}: {}",
                args.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ),
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Makes or removes the device node where no udev does. One that is right already is left alone.
fn mknodes(name: &str) {
    let _ = dmsetup(&["mknodes", name]);
}

/// Makes a device-mapper device with a bow target.
///
/// # Errors
///
/// The error of `dmsetup`.
pub fn create(name: &str, table: &str) -> Result {
    dmsetup(&["create", name, "--table", table]).map_err(|failure| {
        failure.advise(
            "The kernel's log says what it did not like (`dmesg | tail`); \
             \"unknown target type\" means that the module dm-bow is not loaded.",
        )
    })?;
    mknodes(name);
    Ok(())
}

impl Live {
    /// Removes the device. One that somebody looks at for a moment, as udev does after a change, is
    /// tried again for some seconds.
    ///
    /// # Errors
    ///
    /// [`Code::InUse`] names who uses it.
    pub fn remove(&self) -> Result {
        const TRIES: u32 = 25;
        const WAIT: Duration = Duration::from_millis(200);
        let name = &self.name;
        let mut tries = 0;

        loop {
            let users = users::of_number(&self.number);
            let result = match users.as_slice() {
                [] => dmsetup(&["remove", name]).map(|_| mknodes(name)),
                users => return Err(in_use(name, users)),
            };
            match result {
                Err(failure) if failure.message.contains("busy") => {}
                result => return result,
            }
            tries += 1;
            if tries == TRIES {
                return Err(in_use(name, &users::openers(&self.number)));
            }
            sleep(WAIT);
        }
    }
}

/// Returns the error for a device that cannot be removed.
fn in_use(name: &str, users: &[String]) -> CommandError {
    let by = match users {
        [] => "by someone the kernel does not name".to_owned(),
        users => users.join(", "),
    };

    CommandError::new(
        Code::InUse,
        format!("{name}: it is in use: {by}. It was not removed."),
    )
    .advise(
        "Unmount what is mounted, remove what stands on it, end what has it open, then try again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line() {
        let line = "0 131072 bow 1 4096 105784 24 40 0 3 0 4 ok";
        let figures = Figures {
            block_size: 4096,
            backup: 40,
            condition: "ok".to_owned(),
        };

        assert_eq!(Figures::parse(line), Some(figures.clone()));
        assert_eq!(Figures::parse(&format!("{line} 17 more")), Some(figures));
        assert_eq!(Figures::parse("0 131072 bow 1 4096"), None);
    }
}
