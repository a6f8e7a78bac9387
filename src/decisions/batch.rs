// SPDX-License-Identifier: GPL-2.0

//! Copies of old contents that share a log write.

use super::{
    log::{
        ENTRIES_MAX,
        SECTOR_SIZE, //
    },
    ranges::Kind,
    window::{
        self,
        Window, //
    }, //
};
use core::ops::Range as Span;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Bytes of a page of copy buffer.
pub const PAGE_BYTES: usize = 4096;

/// The most copies in a batch.
pub const COPIES_MAX: usize = 64;

/// Pages of copy buffer in a batch.
pub const BATCH_PAGES: usize = 256;

// The window relies on it.
const _: () = assert!(window::SIZE == (BATCH_PAGES * PAGE_BYTES / SECTOR_SIZE) as u64);

/// The most log blocks that a batch can fill.
pub const FULL_LOG_BLOCKS_MAX: usize = COPIES_MAX / (ENTRIES_MAX - 1) + 2;

/// Reason why a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// The source could not be read.
    Read,
    /// The destination could not be written.
    Write,
    /// No destination of the batch could be written, of several: it is not the places that are bad.
    NoneWritten,
}

/// One copy of `sectors` sectors from `source` to `dest`, both in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOut {
    /// First sector of the data to be saved.
    pub source: u64,
    /// First sector of the place for it.
    pub dest: u64,
    /// Length in sectors.
    pub sectors: u32,
    /// First page of the batch's buffer that is its own.
    pub page: usize,
    /// Raw CRC-32 of the data, seeded as the format says; the target fills it in.
    pub checksum: u32,
    /// Kind of the source before.
    pub(super) from: Option<Kind>,
    /// Part of the source that was needed: its first sector, and one past its last. The remainder is
    /// prefetched.
    pub(super) needed: (u64, u64),
}

impl CopyOut {
    /// Returns the length in bytes.
    pub fn bytes(&self) -> u32 {
        // At most `BATCH_PAGES` pages, so this cannot overflow.
        self.sectors.wrapping_mul(SECTOR_SIZE as u32)
    }

    /// Returns how many bytes of the source are on a device of `sectors` sectors: all, unless its
    /// last block is cut off by the end of the device. The remainder of the backup is zeroes.
    pub fn source_bytes(&self, sectors: u64) -> u32 {
        let end = self.source_end().min(sectors);
        // No more than `bytes`.
        (end.saturating_sub(self.source) as u32).wrapping_mul(SECTOR_SIZE as u32)
    }

    /// Returns one past the last source sector.
    pub fn source_end(&self) -> u64 {
        self.source.wrapping_add(u64::from(self.sectors))
    }

    /// Returns one past the last destination sector.
    pub fn dest_end(&self) -> u64 {
        self.dest.wrapping_add(u64::from(self.sectors))
    }

    /// Returns the parts of the source that were not needed; either may be empty.
    pub fn prefetched(&self) -> [Span<u64>; 2] {
        [self.source..self.needed.0, self.needed.1..self.source_end()]
    }

    /// Returns whether the copy is of more than was needed.
    pub fn is_extended(&self) -> bool {
        self.needed != (self.source, self.source_end())
    }

    /// Returns whether the source is the relocated first block: its contents keep changing, so that no
    /// checksum can be recorded.
    pub(super) fn is_of_first_block(&self) -> bool {
        self.from == Some(Kind::FirstBlock)
    }
}

/// Copies that share a log write.
pub struct Batch {
    pub(super) copies: KVec<CopyOut>,
    pub(super) pages: usize,
    /// Size in sectors of the window of each copy.
    pub(super) window: u64,
}

impl Batch {
    /// Creates an empty batch. All the memory that it will ever use is allocated here.
    pub fn new(flags: Flags) -> Result<Self> {
        Ok(Self {
            copies: KVec::with_capacity(COPIES_MAX, flags)?,
            pages: 0,
            window: window::SIZE,
        })
    }

    /// Says that about `writes` first writes will join the batch.
    pub(super) fn expect(&mut self, writes: usize, window: &Window) {
        self.window = window.size_for(writes);
    }

    /// Returns the copies, in the order in which their entries are logged.
    pub fn copies(&self) -> &[CopyOut] {
        &self.copies
    }

    /// Returns the copies, so that their checksums can be filled in.
    pub fn copies_mut(&mut self) -> &mut [CopyOut] {
        &mut self.copies
    }

    /// Returns whether the relocated first block is being moved: while it is, nothing may be sent to it.
    pub fn moves_first_block(&self) -> bool {
        self.copies.iter().any(CopyOut::is_of_first_block)
    }

    /// Empties the batch; nothing of what it did is taken back.
    pub fn forget(&mut self) {
        self.copies.clear();
        self.pages = 0;
    }

    /// Returns the number of sectors that still fit.
    pub(super) fn room(&self) -> u64 {
        if self.copies.len() < COPIES_MAX {
            ((BATCH_PAGES - self.pages) * PAGE_BYTES / SECTOR_SIZE) as u64
        } else {
            0
        }
    }

    /// Adds a copy, for which there is [room](Self::room).
    pub(super) fn push(&mut self, copy: CopyOut) {
        // There is capacity for `COPIES_MAX`, and `room` is 0 beyond.
        if self.copies.push_within_capacity(copy).is_ok() {
            self.pages += (copy.bytes() as usize).div_ceil(PAGE_BYTES);
        }
    }
}
