// SPDX-License-Identifier: GPL-2.0

//! Reasons why a log cannot be used, and advice.

use std::path::Path;

use crate::error::{Code, CommandError};
use crate::recovery::RecoveryError;

/// Purpose that a log was read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum For {
    Restore,
    Commit,
    Resume,
    Check,
}

/// Tells the user why a log cannot be used.
pub(super) fn log_error(path: &Path, error: RecoveryError, purpose: For) -> CommandError {
    let shown = path.display();
    let message = format!("{shown}: {error}.");

    match error {
        RecoveryError::NoLog if purpose == For::Resume => CommandError::new(Code::NoLog, message).advise(
            "There is no checkpoint on this device: it was committed or restored, or never taken. \
             `bowctl create` makes a bow device over it.",
        ),
        RecoveryError::NoLog => CommandError::new(Code::NoLog, message).advise(
            "There is no checkpoint on this device: it was committed or restored, or never taken. \
             Nothing was written.",
        ),
        RecoveryError::Invalid(_) => {
            let failure =
                CommandError::new(Code::Damaged, format!("{message} Nothing was written."));

            match purpose {
                For::Commit => failure.advise(
                    "The log does not say where the first block is, so that the new state cannot \
                     be completed by this tool. Keep an image of the device.",
                ),
                For::Restore | For::Resume | For::Check => failure.advise(format!(
                    "The old state cannot be restored from this log. \
                     `bowctl commit {shown}` keeps the new state, \
                     if no restore had begun (`bowctl status {shown}`)."
                )),
            }
        }
        RecoveryError::Restoring => {
            CommandError::new(Code::Restoring, format!("{message} Nothing was written.")).advise(
                format!(
                    "The device is neither in the old state nor in the new one. \
             Finish with `bowctl restore {shown}`."
                ),
            )
        }
        RecoveryError::NotResumable(_) => {
            CommandError::new(Code::State, format!("{message} Nothing was written.")).advise(format!(
                "The target cannot go on with this checkpoint. `bowctl restore {shown}` goes back to it, \
                 `bowctl commit {shown}` keeps the new state."
            ))
        }
        RecoveryError::Changed(_)
        | RecoveryError::NoMemory
        | RecoveryError::Transfer(_)
        | RecoveryError::Zero { .. }
        | RecoveryError::Flush(_) => CommandError::new(Code::Failed, message),
    }
}
