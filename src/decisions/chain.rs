// SPDX-License-Identifier: GPL-2.0

//! The chain of log blocks of a checkpoint: the current log block, and the places for those that are full.
//!
//! Entries are appended to the current log block, which is written to sector 0. A log block that is full is
//! saved in free space as a *full log block*, and its successor begins with an entry that names its place.
//! Places for full log blocks are reserved before they are needed.
//!
//! # Invariants
//!
//! There is room for all expected entries: `current.room() + reserved.len() * (ENTRIES_MAX - 1) >= expected`.
//! Appending a batch therefore never needs space that is not there.

use super::{
    batch::{
        Batch,
        FULL_LOG_BLOCKS_MAX, //
    },
    block_size::BlockSize,
    log::{
        entry_seed,
        Boot,
        Crc32,
        Entry,
        FreeMap,
        Header,
        Identity,
        Sector,
        ENTRIES_MAX,
        SECTOR_SIZE, //
    },
    log_block::LogBlock,
};
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Maximum number of blocks reserved for full log blocks, beside those that a batch may give back.
const RESERVED_MAX: usize = 3 * FULL_LOG_BLOCKS_MAX;

/// Log blocks of a checkpoint. See the [module](self) for its invariants.
pub(super) struct Chain {
    // Boxed, so that moving a checkpoint takes little of the stack.
    current: KBox<LogBlock>,
    /// Copy of the current log block from before the last [`append`](Self::append).
    before: KBox<LogBlock>,
    /// First sectors of the blocks reserved for full log blocks.
    reserved: KVec<u64>,
    /// Number of entries that will be appended, of copies that have not failed so far.
    expected: usize,
    block: BlockSize,
}

/// The entries of a batch in the log block in memory: a token that a
/// [roll-back](super::checkpoint::Checkpoint::roll_back) consumes, so that none is rolled back twice.
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

    /// Adds a full log block at `sector`.
    fn add_full_block(&mut self, sector: u64) {
        // There is a place for as many full log blocks as a batch can fill.
        if let Some(place) = self.full_blocks.get_mut(self.count) {
            *place = sector;
            self.count += 1;
        }
    }
}

impl Chain {
    /// Allocates an empty log for a checkpoint with blocks of size `block`. Sleeps if `flags` allow it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(block: BlockSize, identity: Identity, flags: Flags) -> Result<Self> {
        let log = || KBox::new(LogBlock::new(block.bytes(), identity, 0), flags);
        // INVARIANT: No entry is expected.
        Ok(Self {
            current: log()?,
            before: log()?,
            reserved: KVec::with_capacity(RESERVED_MAX + FULL_LOG_BLOCKS_MAX, flags)?,
            expected: 0,
            block,
        })
    }

    /// Returns the log block in memory.
    pub(super) fn current(&self) -> &LogBlock {
        &self.current
    }

    /// Records that the relocated first block begins at `sector`.
    pub(super) fn set_first_block(&mut self, sector: u64) {
        self.current.set_sector0(sector);
    }

    /// Records where the free map is.
    pub(super) fn set_free_map(&mut self, map: FreeMap) {
        self.current.set_free_map(Some(map));
    }

    /// Records what is to be done at the next boot.
    pub(super) fn set_boot(&mut self, boot: Boot) {
        self.current.set_boot(boot);
    }

    /// Goes on with the log block that has `header` and `entries`.
    pub(super) fn resume(&mut self, header: &Header, entries: impl Iterator<Item = Entry>) {
        self.current.resume(header);
        for entry in entries {
            // As many entries as a log block has fit into one.
            let _ = self.current.push(entry);
        }
    }

    /// Appends the first entry of an empty log.
    pub(super) fn begin(&mut self, entry: Entry) {
        // An empty log block has room.
        let _ = self.current.push(entry);
    }

    /// Returns whether a block has to be [reserved](Self::reserve) before one more entry is expected.
    pub(super) fn needs_block(&self) -> bool {
        self.current.room() + self.reserved.len() * (ENTRIES_MAX - 1) <= self.expected
    }

    /// Returns whether a block may be reserved.
    pub(super) fn may_reserve(&self) -> bool {
        self.reserved.len() < RESERVED_MAX
    }

    /// Adds the block at `sector` to those reserved for full log blocks.
    pub(super) fn reserve(&mut self, sector: u64) {
        // There is capacity, since `may_reserve` was asked.
        let _ = self.reserved.push_within_capacity(sector);
    }

    /// Counts an entry that will be appended. There is room for it ([`needs_block`](Self::needs_block)).
    pub(super) fn expect_entry(&mut self) {
        self.expected += 1;
    }

    /// Counts an entry that will not be appended after all.
    pub(super) fn forget_entry(&mut self) {
        self.expected = self.expected.saturating_sub(1);
    }

    /// Appends entries for the grants of `batch`, and for those of its copies that have not failed. For each log block that this fills,
    /// calls `save` with its number in the batch and with its first sector; its other sectors are zero. All
    /// of these must be durable before the log block itself is written to sector 0.
    ///
    /// # Errors
    ///
    /// `ENOSPC`, which the invariants exclude.
    pub(super) fn append(
        &mut self,
        batch: &Batch,
        failed: impl Fn(usize) -> bool,
        crc32: Crc32,
        save: impl FnMut(usize, &Sector),
    ) -> Result<Appended> {
        *self.before = *self.current;
        let mut appended = Appended::default();
        let result = self.append_entries(batch, failed, crc32, save, &mut appended);
        if let Err(error) = result {
            self.roll_back(appended);
            return Err(error);
        }
        Ok(appended)
    }

    // Not inlined into a caller that also submits I/O: this function has a sector on the stack.
    #[inline(never)]
    fn append_entries(
        &mut self,
        batch: &Batch,
        failed: impl Fn(usize) -> bool,
        crc32: Crc32,
        mut save: impl FnMut(usize, &Sector),
        appended: &mut Appended,
    ) -> Result {
        for span in batch.grants.iter().take(batch.good_grants()) {
            self.append_entry(Entry::grant(span), crc32, &mut save, appended)?;
        }
        for (index, copy) in batch.copies.iter().enumerate() {
            if failed(index) {
                continue;
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
            self.append_entry(entry, crc32, &mut save, appended)?;
            if copy.is_of_first_block() {
                self.current.set_sector0(copy.dest);
            }
        }
        Ok(())
    }

    fn append_entry(
        &mut self,
        entry: Entry,
        crc32: Crc32,
        save: &mut impl FnMut(usize, &Sector),
        appended: &mut Appended,
    ) -> Result {
        if self.current.room() == 0 {
            let place = self.take_reserved().ok_or(ENOSPC)?;
            self.succeed(place, crc32, |sector| save(appended.count, sector));
            appended.add_full_block(place);
        }
        self.current.push(entry).map_err(|_| ENOSPC)?;
        self.forget_entry();
        appended.entries += 1;
        Ok(())
    }

    /// Calls `save` with the log block, which is full and will be saved at `place`, and begins its successor.
    fn succeed(&mut self, place: u64, crc32: Crc32, save: impl FnOnce(&Sector)) {
        let mut sector = [0; SECTOR_SIZE];
        self.current.encode(&mut sector, crc32);
        save(&sector);
        let checksum = self.block_checksum(&sector, crc32);
        self.current.succeed(place, checksum);
    }

    /// Rolls back the last [`append`](Self::append), which will be repeated since another copy has failed or
    /// a full log block could not be written.
    pub(super) fn roll_back(&mut self, appended: Appended) {
        *self.current = *self.before;
        self.expected += appended.entries;
        for &sector in appended.full_blocks() {
            // There is capacity for the blocks that one batch took.
            let _ = self.reserved.push_within_capacity(sector);
        }
        let count = appended.count.min(self.reserved.len());
        self.reserved.rotate_right(count);
    }

    /// Replaces the reserved block at `sector` by the one at `other`. Returns whether `sector` was reserved.
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

    /// Takes the block that was reserved first, since writes to that block wait as long as it is reserved.
    fn take_reserved(&mut self) -> Option<u64> {
        if !self.reserved.is_empty() {
            self.reserved.rotate_left(1);
        }
        self.reserved.pop()
    }

    /// Takes a reserved block that is not needed, if there is one. While entries are expected, all reserved
    /// blocks are needed.
    pub(super) fn release(&mut self) -> Option<u64> {
        if self.expected > 0 {
            return None;
        }
        self.reserved.pop()
    }

    /// Returns the checksum of a full log block, which is `sector` and zeroes.
    fn block_checksum(&self, sector: &Sector, crc32: Crc32) -> u32 {
        const ZEROES: &Sector = &[0; SECTOR_SIZE];
        let mut checksum = crc32(entry_seed(0, self.block.bytes()), sector);
        for _ in 1..self.block.sectors() {
            checksum = crc32(checksum, ZEROES);
        }
        checksum
    }
}
