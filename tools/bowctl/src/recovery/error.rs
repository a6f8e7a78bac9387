// SPDX-License-Identifier: GPL-2.0

//! Reasons why a recovery ended.

use std::io;

use bow_decisions::log::LogError;
use bow_decisions::resume::ResumeError;
use thiserror::Error;

pub use bow_decisions::check_error::{CheckError, EntryError};

use crate::device::copy::TransferError;

/// Reason why the new state cannot be kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitError {
    /// The first block is no log block that can be used.
    Invalid(CheckError),
    /// A restore has begun: the device is in neither state.
    Restoring,
}

/// Reason why a check, a restore or a commit ended.
#[derive(Debug, Error)]
pub enum RecoveryError {
    /// There is no log on the device.
    #[error("there is no log in the first block")]
    NoLog,
    /// The log cannot be used. Nothing was written.
    #[error("the log is damaged: {0}")]
    Invalid(CheckError),
    /// A restore has begun.
    #[error("a restore has begun and has not finished")]
    Restoring,
    /// The log is good, but does not have what resuming the checkpoint needs.
    #[error("{0}")]
    NotResumable(ResumeError),
    /// The log that was checked is no longer what is found. This is a bug, or somebody else writes
    /// to the device.
    #[error("the log changed while it was being restored: {0}")]
    Changed(CheckError),
    /// There is not enough memory.
    #[error("not enough memory to follow the log")]
    NoMemory,
    /// A read or a write failed.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// Zeroes could not be written.
    #[error("zeroing {sectors} sectors from sector {sector} on: {error}")]
    Zero {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
        /// The device's error.
        error: io::Error,
    },
    /// A flush failed.
    #[error("flushing: {0}")]
    Flush(io::Error),
}

impl From<ResumeError> for RecoveryError {
    fn from(error: ResumeError) -> Self {
        match error {
            ResumeError::Check(invalid) => invalid.into(),
            ResumeError::Restoring => Self::Restoring,
            ResumeError::NoMemory => Self::NoMemory,
            error @ (ResumeError::Version(_) | ResumeError::NoFreeMap | ResumeError::Map(_)) => {
                Self::NotResumable(error)
            }
        }
    }
}

impl From<CheckError> for RecoveryError {
    fn from(invalid: CheckError) -> Self {
        match invalid {
            CheckError::Block {
                sector: 0,
                error: LogError::Magic(_),
            } => Self::NoLog,
            CheckError::NoMemory => Self::NoMemory,
            invalid => Self::Invalid(invalid),
        }
    }
}
