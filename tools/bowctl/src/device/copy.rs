// SPDX-License-Identifier: GPL-2.0

//! Copies from one place of a device to another.

use std::io;
use std::ops::Range;

use bow_decisions::log::SECTOR_SIZE;
use thiserror::Error;

/// A transfer that the device failed.
#[derive(Debug, Error)]
pub enum TransferError {
    /// A read failed.
    #[error("reading {len} bytes at sector {sector}: {error}")]
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
        /// The device's error.
        error: io::Error,
    },
    /// A write failed.
    #[error("writing {len} bytes at sector {sector}: {error}")]
    Write {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
        /// The device's error.
        error: io::Error,
    },
}

/// A copy of a run of sectors to another place, which does not overlap the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CopyBack {
    /// First sector to read.
    pub from: u64,
    /// First sector to write.
    pub to: u64,
    /// Number of sectors.
    pub sectors: u64,
}

impl CopyBack {
    /// Returns the sectors to read.
    pub fn reads(&self) -> Range<u64> {
        self.from..self.from.saturating_add(self.sectors)
    }

    /// Returns the sectors to write.
    pub fn writes(&self) -> Range<u64> {
        self.to..self.to.saturating_add(self.sectors)
    }

    /// Returns the number of bytes.
    pub fn bytes(&self) -> usize {
        self.sectors as usize * SECTOR_SIZE
    }

    /// Returns this copy and `other` as one, if one of them directly follows the other in both places.
    pub fn join(&self, other: &Self) -> Option<Self> {
        let follows = |first: &Self, second: &Self| {
            first.reads().end == second.from && first.writes().end == second.to
        };
        let first = if follows(self, other) {
            self
        } else if follows(other, self) {
            other
        } else {
            return None;
        };

        Some(Self {
            sectors: self.sectors.saturating_add(other.sectors),
            ..*first
        })
    }

    /// Has `read` fill `data`.
    ///
    /// # Errors
    ///
    /// That of `read`.
    pub fn read(
        &self,
        data: &mut [u8],
        read: impl FnOnce(u64, &mut [u8]) -> io::Result<()>,
    ) -> Result<(), TransferError> {
        read(self.from, data).map_err(|error| TransferError::Read {
            sector: self.from,
            len: self.bytes(),
            error,
        })
    }

    /// Has `write` write `data`.
    ///
    /// # Errors
    ///
    /// That of `write`.
    pub fn write(
        &self,
        data: &[u8],
        write: impl FnOnce(u64, &[u8]) -> io::Result<()>,
    ) -> Result<(), TransferError> {
        write(self.to, data).map_err(|error| TransferError::Write {
            sector: self.to,
            len: self.bytes(),
            error,
        })
    }
}
