// SPDX-License-Identifier: GPL-2.0

//! Files in /run that tell the parts of a boot about each other. The initramfs makes them, and they remain when the
//! root is switched. Others tell programs of Debian that a reboot is wanted.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::config::Config;

/// Directory of the files.
pub const FOLDER: &str = "/run/bow";

/// A checkpoint is open.
pub const OPEN: &str = "/run/bow/open";

/// Name of the file that is there while a boot is on trial.
pub const TRY_NAME: &str = "try";

/// A boot is on trial.
pub const TRY: &str = "/run/bow/try";

/// All required checks of this boot on trial have passed. bow-commit.service looks at it.
const HEALTHY: &str = "/run/bow/healthy";

/// A reboot is wanted, as Debian's packages say it.
const REBOOT: &str = "/run/reboot-required";

/// Package that wants the reboot.
const REBOOT_BY: &str = "dm-bow-root";

/// Drop-in with the time that a boot on trial has.
const DEADLINE: &str = "/run/systemd/system/bow-deadline.timer.d/bow.conf";

/// Notes that a checkpoint is open.
///
/// # Errors
///
/// Those of the file system.
pub fn set_open() -> io::Result<()> {
    fs::create_dir_all(FOLDER)?;
    fs::write(OPEN, "")
}

/// Notes that this boot is on trial, the one with this number, from 1 on.
///
/// # Errors
///
/// Those of the file system.
pub fn set_try(number: u8, config: &Config) -> io::Result<()> {
    set_open()?;
    fs::write(TRY, format!("{number}\n"))?;
    if let Some(folder) = Path::new(DEADLINE).parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(
        DEADLINE,
        format!(
            "[Timer]\nOnBootSec=\nOnBootSec={}\n",
            config.deadline.as_secs()
        ),
    )
}

/// Returns whether this boot is on trial.
pub fn is_try() -> bool {
    Path::new(TRY).exists()
}

/// Returns the number of this boot, if it is on trial.
pub fn trial() -> Option<u8> {
    fs::read_to_string(TRY).ok()?.trim().parse().ok()
}

/// Notes that all required checks have passed.
///
/// # Errors
///
/// Those of the file system.
pub fn set_healthy() -> io::Result<()> {
    fs::write(HEALTHY, "")
}

/// Ends the trial, if this boot is one.
pub fn end_try() {
    let _ = fs::remove_file(TRY);
    let _ = fs::remove_file(HEALTHY);
}

/// Notes that a reboot is wanted, for unattended-upgrades and the like.
///
/// # Errors
///
/// Those of the file system.
pub fn want_reboot() -> io::Result<()> {
    want_reboot_in(Path::new(REBOOT))
}

fn want_reboot_in(path: &Path) -> io::Result<()> {
    let packages = path.with_extension("pkgs");
    let noted = fs::read_to_string(&packages).unwrap_or_default();

    fs::write(path, "*** System restart required ***\n")?;
    if noted.lines().any(|package| package == REBOOT_BY) {
        return Ok(());
    }
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(packages)?;

    writeln!(file, "{REBOOT_BY}")
}

/// Notes that no checkpoint is open any more.
pub fn end() {
    end_try();
    let _ = fs::remove_file(OPEN);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reboot_is_asked_for_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("reboot-required");
        let packages = folder.path().join("reboot-required.pkgs");

        fs::write(&packages, "linux-base\n").unwrap();
        want_reboot_in(&path).unwrap();
        want_reboot_in(&path).unwrap();
        assert!(path.exists());
        assert_eq!(
            fs::read_to_string(packages).unwrap(),
            "linux-base\ndm-bow-root\n"
        );
    }
}
