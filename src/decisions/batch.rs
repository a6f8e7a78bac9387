// SPDX-License-Identifier: GPL-2.0

//! Copies that share a log write.

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
pub const RESTS_MAX: usize = COPIES_MAX / (ENTRIES_MAX - 1) + 2;

/// One copy of `sectors` sectors from `source` to `dest`, both in sectors.
#[derive(Clone, core::marker::Copy, Debug, PartialEq, Eq)]
pub struct Copy {
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
    /// What the source was before.
    pub(super) from: Option<Kind>,
    /// What of the source was needed: its first sector, and one past its last. The rest is ahead.
    pub(super) needed: (u64, u64),
}

impl Copy {
    /// Length in bytes.
    pub fn bytes(&self) -> u32 {
        // At most `BATCH_PAGES` pages, so this cannot overflow.
        self.sectors.wrapping_mul(SECTOR_SIZE as u32)
    }

    /// Returns how many bytes of the source are on a device of `sectors` sectors: all, unless its
    /// last block is cut off by the end of the device. The rest of the backup is zeroes.
    pub fn source_bytes(&self, sectors: u64) -> u32 {
        let end = self.source_end().min(sectors);
        // No more than `bytes`.
        (end.saturating_sub(self.source) as u32).wrapping_mul(SECTOR_SIZE as u32)
    }

    /// One past the last source sector.
    pub fn source_end(&self) -> u64 {
        self.source.wrapping_add(u64::from(self.sectors))
    }

    /// One past the last destination sector.
    pub fn dest_end(&self) -> u64 {
        self.dest.wrapping_add(u64::from(self.sectors))
    }

    /// The parts of the source that were not needed; either may be empty.
    pub fn ahead(&self) -> [Span<u64>; 2] {
        [self.source..self.needed.0, self.needed.1..self.source_end()]
    }

    /// Whether it is more than was needed.
    pub fn is_extended(&self) -> bool {
        self.needed != (self.source, self.source_end())
    }

    /// Whether the contents of the source keep changing, so that no checksum can be recorded.
    pub(super) fn is_live(&self) -> bool {
        self.from == Some(Kind::Live)
    }
}

/// Copies that share a log write.
pub struct Batch {
    pub(super) copies: KVec<Copy>,
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

    /// The copies, in the order in which their entries are logged.
    pub fn copies(&self) -> &[Copy] {
        &self.copies
    }

    /// The copies, so that their checksums can be filled in.
    pub fn copies_mut(&mut self) -> &mut [Copy] {
        &mut self.copies
    }

    /// Whether the live first block is being moved: while it is, nothing may be sent to it.
    pub fn moves_live(&self) -> bool {
        self.copies.iter().any(Copy::is_live)
    }

    /// Empties the batch; nothing of what it did is taken back.
    pub fn forget(&mut self) {
        self.copies.clear();
        self.pages = 0;
    }

    /// The sectors that still fit.
    pub(super) fn room(&self) -> u64 {
        if self.copies.len() < COPIES_MAX {
            ((BATCH_PAGES - self.pages) * PAGE_BYTES / SECTOR_SIZE) as u64
        } else {
            0
        }
    }

    pub(super) fn push(&mut self, copy: Copy) {
        // There is capacity for `COPIES_MAX`, and `room` is 0 beyond.
        if self.copies.push_within_capacity(copy).is_ok() {
            self.pages += (copy.bytes() as usize).div_ceil(PAGE_BYTES);
        }
    }
}
