// SPDX-License-Identifier: GPL-2.0

//! The log blocks of a checkpoint: the current one, and the places of those that are full.
//!
//! Entries go into the current log block, which is written to sector 0. When it is full it is saved in free
//! space as a *full log block*, and its successor begins with an entry that names the place. The places are
//! reserved before they are needed.
//!
//! # Invariants
//!
//! All expected entries fit: `current.room() + reserved.len() * (ENTRIES_MAX - 1) >= expected`, so that
//! appending a batch never needs space that is not there.

use super::{
    batch::{
        Batch,
        FULL_LOG_BLOCKS_MAX, //
    },
    block_size::BlockSize,
    log::{
        entry_seed,
        Crc32,
        Entry,
        Identity,
        LogBlock,
        Sector,
        ENTRIES_MAX,
        SECTOR_SIZE, //
    },
};
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// The most blocks reserved for full log blocks, beside those that a batch may give back.
const RESERVED_MAX: usize = 3 * FULL_LOG_BLOCKS_MAX;

/// The log blocks of a checkpoint.
pub(super) struct Chain {
    // Not in place, so that a checkpoint can be moved without filling the stack.
    current: KBox<LogBlock>,
    /// The log block before the last [`append`](Self::append).
    before: KBox<LogBlock>,
    /// First sectors of the blocks reserved for full log blocks.
    reserved: KVec<u64>,
    /// Entries of copies that are not appended yet.
    expected: usize,
    block: BlockSize,
}

/// The entries of a batch in the log block in memory: a token that can be used once, to keep them or to
/// [roll them back](super::checkpoint::Checkpoint::roll_back).
#[derive(Debug, Default)]
pub struct Appended {
    entries: usize,
    full_blocks: [u64; FULL_LOG_BLOCKS_MAX],
    count: usize,
}

impl Appended {
    /// Returns the number of entries.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Returns the first sectors of the log blocks that the batch has filled.
    pub fn full_blocks(&self) -> &[u64] {
        self.full_blocks.get(..self.count).unwrap_or_default()
    }

    fn add_full_block(&mut self, sector: u64) {
        // There is a place for as many as a batch can fill.
        if let Some(place) = self.full_blocks.get_mut(self.count) {
            *place = sector;
            self.count += 1;
        }
    }
}

impl Chain {
    /// Allocates the empty log of a checkpoint with blocks of size `block`.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(block: BlockSize, identity: Identity, flags: Flags) -> Result<Self> {
        let log = || KBox::new(LogBlock::new(block.bytes(), identity, 0), flags);
        Ok(Self {
            current: log()?,
            before: log()?,
            reserved: KVec::with_capacity(RESERVED_MAX + FULL_LOG_BLOCKS_MAX, flags)?,
            expected: 0,
            block,
        })
    }

    /// Returns the log block as it is in memory.
    pub(super) fn current(&self) -> &LogBlock {
        &self.current
    }

    /// Records where the first block is: a sector.
    pub(super) fn set_first_block(&mut self, sector: u64) {
        self.current.set_sector0(sector);
    }

    /// Makes the first entry of an empty log.
    pub(super) fn begin(&mut self, entry: Entry) {
        // An empty log block has room.
        let _ = self.current.push(entry);
    }

    /// Returns whether one more entry needs a block [reserved](Self::reserve) first.
    pub(super) fn needs_block(&self) -> bool {
        self.current.room() + self.reserved.len() * (ENTRIES_MAX - 1) <= self.expected
    }

    /// Returns whether a block may be reserved.
    pub(super) fn may_reserve(&self) -> bool {
        self.reserved.len() < RESERVED_MAX
    }

    /// Adds the block at `sector` to those for full log blocks.
    pub(super) fn reserve(&mut self, sector: u64) {
        // There is capacity.
        let _ = self.reserved.push_within_capacity(sector);
    }

    /// Counts an entry that will be appended.
    pub(super) fn expect_entry(&mut self) {
        self.expected += 1;
    }

    /// Counts an entry that will not be appended after all.
    pub(super) fn forget_entry(&mut self) {
        self.expected = self.expected.saturating_sub(1);
    }

    /// Appends entries for the copies of `batch` that have not failed. For each log block that is full
    /// thereby, calls `save` with its number in the batch and its first sector's bytes; its others are
    /// zero. All of these must be durable before the log block itself, which is then to be written to
    /// sector 0.
    ///
    /// # Errors
    ///
    /// `ENOSPC` cannot be, as the invariants say.
    // Not where it is called, from where I/O is submitted too: it has a sector on the stack.
    #[inline(never)]
    pub(super) fn append(
        &mut self,
        batch: &Batch,
        failed: impl Fn(usize) -> bool,
        crc32: Crc32,
        mut save: impl FnMut(usize, &Sector),
    ) -> Result<Appended> {
        *self.before = *self.current;
        let mut appended = Appended::default();
        for (index, copy) in batch.copies.iter().enumerate() {
            if failed(index) {
                continue;
            }
            if self.current.room() == 0 {
                let place = self.take_reserved().ok_or(ENOSPC)?;
                let mut sector = [0; SECTOR_SIZE];
                self.current.encode(&mut sector, crc32);
                save(appended.count, &sector);
                let checksum = self.block_checksum(&sector, crc32);
                self.current.succeed(place, checksum);
                appended.add_full_block(place);
            }
            let checksum = if copy.is_of_first_block() {
                0
            } else {
                copy.checksum
            };
            let entry = Entry {
                source: copy.source,
                dest: copy.dest,
                size: copy.bytes(),
                checksum,
            };
            self.current.push(entry).map_err(|_| ENOSPC)?;
            if copy.is_of_first_block() {
                self.current.set_sector0(copy.dest);
            }
            self.forget_entry();
            appended.entries += 1;
        }
        Ok(appended)
    }

    /// Takes back the last [`append`](Self::append): it will be repeated, since another copy has failed, or
    /// a full log block could not be written.
    pub(super) fn roll_back(&mut self, appended: Appended) {
        *self.current = *self.before;
        self.expected += appended.entries;
        for &sector in appended.full_blocks() {
            // There is capacity for what one batch took.
            let _ = self.reserved.push_within_capacity(sector);
        }
        let count = appended.count.min(self.reserved.len());
        self.reserved.rotate_right(count);
    }

    /// Puts the block at `other` into the place of the reserved one at `sector`. Returns whether that is
    /// reserved.
    pub(super) fn replace_reserved(&mut self, sector: u64, other: u64) -> bool {
        let place = self.reserved.iter_mut().find(|place| **place == sector);
        match place {
            Some(place) => {
                *place = other;
                true
            }
            None => false,
        }
    }

    /// Takes the block that was reserved first: whoever writes to it waits for that to be over.
    fn take_reserved(&mut self) -> Option<u64> {
        if !self.reserved.is_empty() {
            self.reserved.rotate_left(1);
        }
        self.reserved.pop()
    }

    /// Takes a reserved block that nobody needs: there is one while no entry is expected.
    pub(super) fn release(&mut self) -> Option<u64> {
        if self.expected > 0 {
            return None;
        }
        self.reserved.pop()
    }

    /// Returns the checksum of a full log block: one sector and zeroes.
    fn block_checksum(&self, sector: &Sector, crc32: Crc32) -> u32 {
        const ZEROES: &Sector = &[0; SECTOR_SIZE];
        let mut checksum = crc32(entry_seed(0, self.block.bytes()), sector);
        for _ in 1..self.block.sectors() {
            checksum = crc32(checksum, ZEROES);
        }
        checksum
    }
}
