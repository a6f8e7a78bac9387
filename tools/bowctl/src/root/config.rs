// SPDX-License-Identifier: GPL-2.0

//! Configuration of dm-bow under the root file system: `bow.conf`, which the administrator writes, and `root.conf`,
//! which `bowctl root enable` writes.
//!
//! Both have lines NAME=VALUE. What is wrong in `bow.conf` is said and passed over: a machine must boot in spite of
//! it.

use std::fs;
use std::time::Duration;

use crate::error::{complain, CommandError, Result};

/// The configuration.
pub const PATH: &str = "/etc/bow.conf";

/// The partition of the root file system. dm-bow is enabled if the file is there.
pub const ROOT_PATH: &str = "/var/lib/bow/root.conf";

/// Policy for free space for backups that runs low.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LowSpace {
    /// Go back to the checkpoint.
    Rollback,
    /// Keep the new state.
    Commit,
    /// Nothing.
    Nothing,
}

/// The configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// Number of boots that a new state may be tried.
    pub tries: u8,
    /// Time that a boot on trial has.
    pub deadline: Duration,
    /// Time to wait for the partition in the initramfs.
    pub wait: Duration,
    /// Time to wait for an answer at the console.
    pub ask: Duration,
    /// Time that a check may take.
    pub check: Duration,
    /// Reboot when the command of `bowctl run` has ended.
    pub reboot: bool,
    /// Bytes for backups below which no checkpoint is taken.
    pub free_min: u64,
    /// Bytes for backups below which `low_space` is done.
    pub free_low: u64,
    /// Policy below `free_low`.
    pub low_space: LowSpace,
    /// Packages of boot loaders may be changed while a checkpoint is open.
    pub boot_loader: bool,
    /// Upgrades of apt take a checkpoint by themselves.
    pub apt_auto: bool,
    /// Discards are kept from the underlying device.
    pub keep_discards: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tries: 3,
            deadline: Duration::from_secs(900),
            wait: Duration::from_secs(30),
            ask: Duration::from_secs(60),
            check: Duration::from_secs(60),
            reboot: true,
            free_min: 512 << 20,
            free_low: 64 << 20,
            low_space: LowSpace::Rollback,
            boot_loader: false,
            apt_auto: false,
            keep_discards: false,
        }
    }
}

impl Config {
    /// Reads the configuration; one that is not there is that of the defaults. Says on standard error what is wrong
    /// with it.
    pub fn read() -> Self {
        let (config, wrong) = Self::parse(&fs::read_to_string(PATH).unwrap_or_default());

        for line in wrong {
            complain!("{PATH}: not understood: {line}");
        }
        config
    }

    /// Returns the configuration of a text, and the lines that are wrong.
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let mut config = Self::default();
        let mut wrong = Vec::new();

        for (line, name, value) in pairs(text) {
            if name.and_then(|name| config.set(name, value)).is_none() {
                wrong.push(line.to_owned());
            }
        }
        (config, wrong)
    }

    fn set(&mut self, name: &str, value: &str) -> Option<()> {
        let seconds = || value.parse().ok().map(Duration::from_secs);
        let mib = || value.parse::<u64>().ok()?.checked_mul(1 << 20);
        let one_of = |yes, no| {
            [(yes, true), (no, false)]
                .into_iter()
                .find_map(|(word, meaning)| (word == value).then_some(meaning))
        };

        match name {
            "TRIES" => self.tries = value.parse().ok().filter(|tries| *tries > 0)?,
            "DEADLINE" => self.deadline = seconds()?,
            "WAIT" => self.wait = seconds()?,
            "ASK" => self.ask = seconds()?,
            "CHECK_SECONDS" => self.check = seconds()?,
            "REBOOT" => self.reboot = one_of("yes", "no")?,
            "FREE_MIN" => self.free_min = mib()?,
            "FREE_LOW" => self.free_low = mib()?,
            "LOW_SPACE" => {
                self.low_space = match value {
                    "rollback" => LowSpace::Rollback,
                    "commit" => LowSpace::Commit,
                    "nothing" => LowSpace::Nothing,
                    _ => return None,
                }
            }
            "BOOT_LOADER" => self.boot_loader = one_of("allow", "refuse")?,
            "APT" => self.apt_auto = one_of("auto", "guard")?,
            "DISCARDS" => self.keep_discards = one_of("keep", "pass")?,
            _ => return None,
        }
        Some(())
    }
}

/// Returns the lines of a text that say something, each with its name and value.
fn pairs(text: &str) -> impl Iterator<Item = (&str, Option<&str>, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| match line.split_once('=') {
            Some((name, value)) => (line, Some(name.trim()), value.trim()),
            None => (line, None, ""),
        })
}

/// Partition of the root file system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its PARTUUID.
    pub partition: String,
    /// Type of the file system.
    pub kind: String,
    /// There is a [`rescue`](super::rescue), so that a restore hides the file system from GRUB.
    pub rescue: bool,
    /// Kernels and initramfs are not as Debian has them, by a person who has seen to them.
    pub own_boot: bool,
}

impl Root {
    /// Reads what `bowctl root enable` wrote; `None` if dm-bow is not enabled.
    pub fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string(ROOT_PATH).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        let value = |wanted| {
            pairs(text)
                .find_map(|(_, name, value)| (name == Some(wanted)).then(|| value.to_owned()))
        };

        Some(Self {
            partition: value("DEVICE")?
                .strip_prefix("PARTUUID=")?
                .to_ascii_lowercase(),
            kind: value("FSTYPE")?,
            rescue: value("RESCUE").as_deref() == Some("yes"),
            own_boot: value("BOOT").as_deref() == Some("own"),
        })
    }

    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn write(&self) -> Result {
        let text = format!(
            "# Written by `bowctl root enable`.\nDEVICE=PARTUUID={}\nFSTYPE={}\nRESCUE={}\n",
            self.partition,
            self.kind,
            if self.rescue { "yes" } else { "no" }
        );

        fs::create_dir_all(super::STATE)
            .and_then(|()| fs::write(ROOT_PATH, text))
            .map_err(|error| CommandError::io(ROOT_PATH, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_counts_and_the_rest_are_defaults() {
        let (config, wrong) = Config::parse(
            "# TRIES=9\n\n TRIES=5\nLOW_SPACE=commit\nREBOOT=no\nFREE_MIN=1\nAPT=auto\nDEADLINE=60\nDISCARDS=keep",
        );

        assert_eq!(wrong, [""; 0]);
        assert_eq!(
            config,
            Config {
                tries: 5,
                low_space: LowSpace::Commit,
                reboot: false,
                free_min: 1 << 20,
                apt_auto: true,
                keep_discards: true,
                deadline: Duration::from_secs(60),
                ..Config::default()
            }
        );
    }

    #[test]
    fn what_is_wrong_is_passed_over() {
        let lines = [
            "TRIES=0",
            "TRIES=256",
            "REBOOT=maybe",
            "WORD",
            "OTHER=1",
            "APT=",
        ];
        let (config, wrong) = Config::parse(&lines.join("\n"));

        assert_eq!(config, Config::default());
        assert_eq!(wrong, lines);
    }

    /// The file that is installed names each setting, with its default.
    #[test]
    fn the_file_has_the_defaults() {
        let text = include_str!("../../../root/bow.conf");
        let lines: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix('#'))
            .filter(|line| line.starts_with(|first: char| first.is_ascii_uppercase()))
            .collect();
        let (config, wrong) = Config::parse(&lines.join("\n"));

        assert_eq!(lines.len(), 12);
        assert_eq!(config, Config::default());
        assert_eq!(wrong, [""; 0]);
        assert_eq!(Config::parse(text), (Config::default(), Vec::new()));
    }

    #[test]
    fn the_partition_is_read() {
        let root = Root {
            partition: "0a-1".to_owned(),
            kind: "ext4".to_owned(),
            rescue: false,
            own_boot: false,
        };

        assert_eq!(
            Root::parse("# x\nDEVICE=PARTUUID=0A-1\nFSTYPE=ext4\n"),
            Some(root.clone())
        );
        assert_eq!(
            Root::parse("DEVICE=PARTUUID=0a-1\nFSTYPE=ext4\nRESCUE=yes\nBOOT=own"),
            Some(Root {
                rescue: true,
                own_boot: true,
                ..root
            })
        );
        assert_eq!(Root::parse("DEVICE=/dev/sda1\nFSTYPE=ext4\n"), None);
        assert_eq!(Root::parse(""), None);
    }
}
