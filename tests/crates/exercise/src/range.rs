// SPDX-License-Identifier: GPL-2.0

//! Ranges of sectors.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes in a sector: the kernel's unit, whatever the logical block is.
pub(crate) const SECTOR: usize = 512;

/// `len` sectors from `start`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Range {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Range {
    pub(crate) fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    /// Returns the first sector after the range.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    pub(crate) fn overlaps(&self, other: &Range) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    pub(crate) fn contains(&self, other: &Range) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    pub(crate) fn offset_bytes(&self) -> u64 {
        self.start * SECTOR as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.len * SECTOR as u64
    }

    /// Cuts the range into pieces of at most `sectors`.
    pub(crate) fn pieces(self, sectors: u64) -> impl Iterator<Item = Range> {
        (self.start..self.end())
            .step_by(sectors as usize)
            .map(move |start| Range::new(start, sectors.min(self.end() - start)))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.start, self.len)
    }
}

/// Parses `START+LENGTH`, both in sectors.
impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, len) = text
            .split_once('+')
            .ok_or_else(|| format!("{text}: a range is START+LENGTH, in sectors"))?;
        let number = |part: &str| {
            part.parse::<u64>()
                .map_err(|error| format!("{text}: {error}"))
        };
        let range = Range::new(number(start)?, number(len)?);
        if range.len == 0 || range.start.checked_add(range.len).is_none() {
            return Err(format!("{text}: empty, or past the end of everything"));
        }
        Ok(range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_the_range() {
        let pieces: Vec<_> = Range::new(5, 10).pieces(4).collect();
        assert_eq!(
            pieces,
            [Range::new(5, 4), Range::new(9, 4), Range::new(13, 2)]
        );
    }

    #[test]
    fn parsing() {
        assert_eq!("7+9".parse(), Ok(Range::new(7, 9)));
        for bad in ["7", "7+", "+1", "7+0", "18446744073709551615+1", "7-9"] {
            assert!(bad.parse::<Range>().is_err(), "{bad}");
        }
    }
}
