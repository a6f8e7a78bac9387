// SPDX-License-Identifier: GPL-2.0

//! Why a log cannot be used, and what to do then.

use std::path::Path;

use crate::failure::{Code, Failure};
use crate::repair::RepairError;

/// What a log was read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Restore,
    Commit,
    Check,
}

/// Tells the user why a log cannot be used.
pub(super) fn failure(path: &Path, error: RepairError, purpose: For) -> Failure {
    let shown = path.display();
    let message = format!("{shown}: {error}.");

    match error {
        RepairError::NoLog => Failure::new(Code::NoLog, message).advise(
            "There is no checkpoint on this device: it was committed or restored, or never taken. \
             Nothing was written.",
        ),
        RepairError::Invalid(_) => {
            let failure = Failure::new(Code::Damaged, format!("{message} Nothing was written."));

            match purpose {
                For::Commit => failure.advise(
                    "The log does not say where the first block is, so that the new state cannot \
                     be completed by this tool. Keep an image of the device.",
                ),
                For::Restore | For::Check => failure.advise(format!(
                    "The old state cannot be restored from this log. \
                     `bowctl commit {shown}` keeps the new state, \
                     if no restore had begun (`bowctl status {shown}`)."
                )),
            }
        }
        RepairError::Restoring => {
            Failure::new(Code::Restoring, format!("{message} Nothing was written.")).advise(
                format!(
                    "The device is neither in the old state nor in the new one. \
             Finish with `bowctl restore {shown}`."
                ),
            )
        }
        RepairError::Changed(_)
        | RepairError::NoMemory
        | RepairError::Read { .. }
        | RepairError::Write { .. }
        | RepairError::Flush(_) => Failure::new(Code::Failed, message),
    }
}
