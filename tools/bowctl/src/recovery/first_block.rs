// SPDX-License-Identifier: GPL-2.0

//! The two writes that replace the first block, which holds the newest log block, and the steps that
//! a restore and a commit are made of.

use bow_decisions::log::{Crc32, Header, BLOCK_SIZE_MAX, SECTOR_SIZE};

use super::error::CheckError;

/// Bytes of the largest block.
pub(super) const BLOCK_MAX: usize = BLOCK_SIZE_MAX as usize;

/// Step that the caller carries out next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step<'a> {
    /// Copy `bytes` bytes from sector `from` to sector `to`, in pieces of any size and order. The
    /// two ranges do not overlap, and `to` is not in the first block.
    Copy {
        /// Sector to read from.
        from: u64,
        /// Sector to write to.
        to: u64,
        /// Bytes; whole sectors.
        bytes: u32,
    },
    /// Make sectors read as zeroes.
    Zero {
        /// First sector.
        sector: u64,
        /// Number of sectors.
        sectors: u64,
    },
    /// Read `len` bytes, a block, from `sector` on, and give them to `feed`.
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
    },
    /// Write this block to the device's first block.
    WriteFirst(&'a [u8]),
    /// Make all that has been written durable. If that fails, stop.
    Flush,
    /// All is done.
    Done,
}

/// The two writes that replace the first block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Replace {
    Tail,
    TailFlush,
    Head,
    HeadFlush,
}

/// A block of the device in memory.
pub(super) struct Block {
    pub(super) bytes: [u8; BLOCK_MAX],
    pub(super) len: usize,
}

impl Block {
    /// Takes the first `len` bytes of `data`; `None` if there are not that many.
    pub(super) fn new(data: &[u8], len: usize) -> Option<Self> {
        let mut bytes = [0; BLOCK_MAX];

        bytes.get_mut(..len)?.copy_from_slice(data.get(..len)?);
        Some(Self { bytes, len })
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Takes the sectors after the first from `other`.
    pub(super) fn take_tail(&mut self, other: &Self) {
        for (to, from) in self.bytes.iter_mut().zip(other.bytes).skip(SECTOR_SIZE) {
            *to = from;
        }
    }
}

/// Reads the header of a log block in the first block.
pub(super) fn parse(first: &[u8], crc32: Crc32) -> Result<Header, CheckError> {
    Header::parse(first, crc32).map_err(|error| CheckError::Block { sector: 0, error })
}

/// Returns where the relocated first block is. `first` is the newest log block, whose header is `header`.
///
/// The C driver writes an entry that moves the relocated first block before it changes `sector0`, which only the next
/// write of the log has. In between, the file system writes to the old place.
pub(super) fn relocated(header: &Header, first: &[u8]) -> u64 {
    let last = || header.entry(first, header.count.checked_sub(1)?);

    // From version 1.1 on, `sector0` is changed with the entry. A restore drops entries from the end.
    if header.has_checksum() || header.restoring {
        return header.sector0;
    }
    match last() {
        Some(moved)
            if moved.source == header.sector0
                && moved.size == header.block_size
                && moved.checksum == 0 =>
        {
            moved.dest
        }
        _ => header.sector0,
    }
}
