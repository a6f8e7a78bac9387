// SPDX-License-Identifier: GPL-2.0

//! The low-water mark: a bound of free space below which somebody is told, before space runs out.

use super::{
    log::SECTOR_SIZE,
    number::number, //
};
use core::fmt;

/// Low-water mark of the space for backups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LowWater {
    /// A number of bytes; 0 is no mark.
    Bytes(u64),
    /// A share of what was free at the checkpoint.
    PerCent(u8),
}

impl LowWater {
    /// No mark.
    pub const NONE: Self = Self::Bytes(0);

    /// Returns the mark that `word` means: a number of bytes, or a number up to 100 and `%`.
    pub fn from_word(word: &[u8]) -> Option<Self> {
        match word.strip_suffix(b"%") {
            Some(digits) => {
                let share = number(digits).filter(|&share| share <= 100)?;
                Some(Self::PerCent(share))
            }
            None => number(word)
                .filter(|&bytes| bytes <= u64::MAX >> 1)
                .map(Self::Bytes),
        }
    }

    /// Returns the number that stands for the mark.
    pub const fn to_raw(self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes << 1,
            Self::PerCent(share) => ((share as u64) << 1) | 1,
        }
    }

    /// Returns the mark that a number stands for.
    pub const fn from_raw(raw: u64) -> Self {
        match raw & 1 {
            0 => Self::Bytes(raw >> 1),
            _ => Self::PerCent((raw >> 1) as u8),
        }
    }

    /// Returns the mark in sectors, of a checkpoint at which `free` sectors were free.
    pub fn sectors(self, free: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.div_ceil(SECTOR_SIZE as u64),
            // In this order a device of any size has no overflow; what is cut off is less than 100 sectors.
            Self::PerCent(share) => (free / 100).saturating_mul(u64::from(share)),
        }
    }
}

impl fmt::Display for LowWater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "{bytes}"),
            Self::PerCent(share) => write!(f, "{share}%"),
        }
    }
}
