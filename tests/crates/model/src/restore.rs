// SPDX-License-Identifier: GPL-2.0

//! A restore as `bowctl restore` does it.

use bowctl::device::BlockDevice;
use bowctl::progress::Progress;
use bowctl::recovery::{self, CheckOptions, RecoveryError};

/// Checks the log of `device`, and restores it.
///
/// # Errors
///
/// Fault of the log, or of the device.
pub fn restore<D: BlockDevice>(device: &mut D) -> Result<(), RecoveryError> {
    let mut progress = Progress::hidden();
    let log = recovery::check(device, CheckOptions::default(), &mut progress, |_| ())?;

    recovery::restore(device, &log, &mut progress)
}
