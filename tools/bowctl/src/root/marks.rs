// SPDX-License-Identifier: GPL-2.0

//! Files in /run that tell the parts of a boot about each other. The initramfs makes them, and they remain when the
//! root is switched.

use std::fs;
use std::io;
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

/// Ends the trial, if this boot is one.
pub fn end_try() {
    let _ = fs::remove_file(TRY);
}

/// Notes that no checkpoint is open any more.
pub fn end() {
    end_try();
    let _ = fs::remove_file(OPEN);
}
