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

/// Size in bytes of a page of the copy buffer.
pub const PAGE_BYTES: usize = 4096;

/// Maximum number of copies in a batch.
pub const COPIES_MAX: usize = 64;

/// Maximum number of grants in a batch.
pub(super) const GRANTS_MAX: usize = 16;

/// Number of pages of copy buffer in a batch.
pub const BATCH_PAGES: usize = 256;

// A window of the largest size has to fit into a batch.
const _: () = assert!(window::SIZE == (BATCH_PAGES * PAGE_BYTES / SECTOR_SIZE) as u64);

/// Maximum number of log blocks that a batch can fill.
pub const FULL_LOG_BLOCKS_MAX: usize = (COPIES_MAX + GRANTS_MAX) / (ENTRIES_MAX - 1) + 2;

/// Reason why a copy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyError {
    /// The source could not be read.
    Read,
    /// The destination could not be written.
    Write,
    /// None of several destinations in the batch could be written, so the destinations are probably good.
    NoneWritten,
}

/// One copy of `sectors` sectors from `source` to `dest`, which are sectors of the underlying device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyOut {
    /// First sector of the old contents.
    pub source: u64,
    /// First sector of the backup.
    pub dest: u64,
    /// Length in sectors.
    pub sectors: u32,
    /// First page of the batch's buffer that this copy uses.
    pub page: usize,
    /// Raw CRC-32 of the old contents, seeded as the format says; filled in by the target.
    pub checksum: u32,
    /// Kind of the source before the copy.
    pub(super) from: Option<Kind>,
    /// Part of the source that a write needs: its first sector, and one past its last. The remainder is
    /// prefetched.
    pub(super) needed: (u64, u64),
}

impl CopyOut {
    /// Returns the length in bytes.
    pub fn bytes(&self) -> u32 {
        // At most `BATCH_PAGES` pages, so this cannot overflow.
        self.sectors.wrapping_mul(SECTOR_SIZE as u32)
    }

    /// Returns the number of bytes of the source that are on a device of `sectors` sectors: all, unless the
    /// end of the device cuts off the last block. The remainder of the backup is zeroes.
    pub fn source_bytes(&self, sectors: u64) -> u32 {
        let end = self.source_end().min(sectors);
        // At most `bytes`, so this cannot overflow.
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

    /// Returns the prefetched parts of the source; either may be empty.
    pub fn prefetched(&self) -> [Span<u64>; 2] {
        [self.source..self.needed.0, self.needed.1..self.source_end()]
    }

    /// Returns whether the copy is of more than was needed.
    pub fn is_extended(&self) -> bool {
        self.needed != (self.source, self.source_end())
    }

    /// Returns whether the source is the relocated first block. The contents of that block keep changing, so
    /// no checksum of them can be recorded.
    pub(super) fn is_of_first_block(&self) -> bool {
        self.from == Some(Kind::FirstBlock)
    }
}

/// Copies that share a log write: at most [`COPIES_MAX`], of [`BATCH_PAGES`] pages in all. Grants share the log
/// write too.
pub struct Batch {
    /// Sectors that are granted, in the order in which their entries are logged, before those of the copies.
    pub(super) grants: KVec<Span<u64>>,
    /// Set if the grants are given up, since the log cannot be told of them.
    pub(super) grants_failed: bool,
    /// The copies, in the order in which their entries are logged.
    pub(super) copies: KVec<CopyOut>,
    /// Number of pages of the copy buffer in use.
    pub(super) pages: usize,
    /// Number of pages of the copy buffer; none in a batch of grants alone.
    pages_max: usize,
    /// Size in sectors of the window of each copy.
    pub(super) window: u64,
}

impl Batch {
    /// Creates an empty batch. Allocates all the memory that the batch will ever use; sleeps if `flags` allow
    /// it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(flags: Flags) -> Result<Self> {
        Self::with_pages(BATCH_PAGES, flags)
    }

    /// Creates an empty batch of grants alone. Sleeps if `flags` allow it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn of_grants(flags: Flags) -> Result<Self> {
        Self::with_pages(0, flags)
    }

    /// Creates an empty batch with `pages` pages of copy buffer.
    fn with_pages(pages_max: usize, flags: Flags) -> Result<Self> {
        let copies = if pages_max > 0 { COPIES_MAX } else { 0 };
        Ok(Self {
            grants: KVec::with_capacity(GRANTS_MAX, flags)?,
            grants_failed: false,
            copies: KVec::with_capacity(copies, flags)?,
            pages: 0,
            pages_max,
            window: window::SIZE,
        })
    }

    /// Sets the size of the windows for a batch that about `writes` first writes will join.
    pub(super) fn choose_window(&mut self, writes: usize, window: &Window) {
        self.window = window.size_for(writes);
    }

    /// Returns the copies, in the order in which their entries are logged.
    pub fn copies(&self) -> &[CopyOut] {
        &self.copies
    }

    /// Returns the copies, for their checksums to be filled in.
    pub fn copies_mut(&mut self) -> &mut [CopyOut] {
        &mut self.copies
    }

    /// Returns the number of entries that the batch has if no copy fails.
    pub fn entries(&self) -> usize {
        self.grants.len() + self.copies.len()
    }

    /// Returns the number of grants that have not failed.
    pub fn good_grants(&self) -> usize {
        if self.grants_failed {
            0
        } else {
            self.grants.len()
        }
    }

    /// Gives up all grants: they will not be in the log.
    pub fn fail_grants(&mut self) {
        self.grants_failed = true;
    }

    /// Returns whether a write to `span` waits for a grant that has failed.
    pub fn has_failed_grant(&self, span: &Span<u64>) -> bool {
        let overlaps = |grant: &Span<u64>| grant.start < span.end && span.start < grant.end;
        self.grants_failed && self.grants.iter().any(overlaps)
    }

    /// Returns whether another grant fits into the batch.
    pub(super) fn may_grant(&self) -> bool {
        self.grants.len() < GRANTS_MAX
    }

    /// Adds a grant, which [fits](Self::may_grant).
    pub(super) fn push_grant(&mut self, span: Span<u64>) {
        let _ = self.grants.push_within_capacity(span);
    }

    /// Returns whether the batch moves the relocated first block, so that no I/O may be sent to that block.
    pub fn moves_first_block(&self) -> bool {
        self.copies.iter().any(CopyOut::is_of_first_block)
    }

    /// Empties the batch. Does not take back anything that the batch did.
    pub fn forget(&mut self) {
        self.grants.clear();
        self.grants_failed = false;
        self.copies.clear();
        self.pages = 0;
    }

    /// Returns the number of sectors that one more copy may have.
    pub(super) fn room(&self) -> u64 {
        if self.copies.len() < COPIES_MAX {
            (self.pages_max.saturating_sub(self.pages) * PAGE_BYTES / SECTOR_SIZE) as u64
        } else {
            0
        }
    }

    /// Adds a copy, for which there is [room](Self::room).
    pub(super) fn push(&mut self, copy: CopyOut) {
        // There is capacity for `COPIES_MAX` copies, beyond which `room` returns 0.
        if self.copies.push_within_capacity(copy).is_ok() {
            self.pages += (copy.bytes() as usize).div_ceil(PAGE_BYTES);
        }
    }
}
