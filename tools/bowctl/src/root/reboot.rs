// SPDX-License-Identifier: GPL-2.0

//! Ways to reboot.

use std::path::Path;

use super::programs;
use crate::error::{CommandError, Result};

/// Reboots. `hard`: without ending what runs, for a system that is to be undone.
///
/// # Errors
///
/// If somebody holds a lock against it; if nothing reboots.
pub fn by_systemd(hard: bool) -> Result {
    let args: &[&str] = if hard {
        &["reboot", "--force"]
    } else {
        &["reboot"]
    };

    match programs::output("systemctl", args) {
        Ok(_) => Ok(()),
        // Somebody holds a lock against it.
        Err(failure) if !hard && has_systemd() => Err(failure),
        Err(_) => at_once(),
    }
}

/// Returns whether systemd runs, and can be asked: an update may have left nothing to ask with.
fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
        && programs::output("systemctl", &["--version"]).is_ok()
}

/// Has the kernel reboot, when all has been written out.
///
/// # Errors
///
/// The kernel's.
pub fn at_once() -> Result {
    rustix::fs::sync();
    without_sync()
}

/// Has the kernel reboot, at once.
///
/// # Errors
///
/// The kernel's.
pub fn without_sync() -> Result {
    rustix::system::reboot(rustix::system::RebootCommand::Restart)
        .map_err(|error| CommandError::io("rebooting", &error.into()))
}
