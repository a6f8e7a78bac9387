// SPDX-License-Identifier: GPL-2.0

//! Log block that is being filled: the writing half of the [format](super::log).

use super::log::{
    at,
    entries_end,
    header_checksum,
    put,
    Boot,
    Crc32,
    Entry,
    FreeMap,
    Header,
    Identity,
    Sector,
    ENTRIES_MAX,
    ENTRY_SIZE,
    HEADER_SIZE,
    MAGIC,
    VERSION_1_2, //
};

/// Error of [`LogBlock::push`]: the log block holds [`ENTRIES_MAX`] entries.
///
/// The log block must be saved elsewhere, and its successor ([`LogBlock::succeed`]) begun.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogBlockFull;

/// Log block of version 1.2 that is being filled. Allocates nothing.
///
/// # Invariants
///
/// `count` is at most [`ENTRIES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBlock {
    block_size: u32,
    sequence: u32,
    sector0: u64,
    identity: Identity,
    free_map: Option<FreeMap>,
    boot: Boot,
    count: usize,
    entries: [Entry; ENTRIES_MAX],
}

impl LogBlock {
    /// Creates the first log block of a checkpoint: sequence 0, no entries.
    ///
    /// `block_size` is in bytes; `sector0` is the first sector of the relocated first block.
    pub fn new(block_size: u32, identity: Identity, sector0: u64) -> Self {
        // INVARIANT: 0 is at most `ENTRIES_MAX`.
        Self {
            block_size,
            sequence: 0,
            sector0,
            identity,
            free_map: None,
            boot: Boot::default(),
            count: 0,
            entries: [Entry::default(); ENTRIES_MAX],
        }
    }

    /// Turns this log block into the one that has `header`, without its entries.
    pub fn resume(&mut self, header: &Header) {
        self.block_size = header.block_size;
        self.sequence = header.sequence;
        self.sector0 = header.sector0;
        self.identity = header.identity.unwrap_or(self.identity);
        self.free_map = header.free_map;
        self.boot = header.boot;
        // INVARIANT: 0 is at most `ENTRIES_MAX`.
        self.count = 0;
        self.entries.fill(Entry::default());
    }

    /// Turns this log block into its successor, once it has been saved as a full log block.
    ///
    /// `dest` is the sector that the full log block was saved at. `checksum` is that of the whole saved
    /// block, seeded with [`entry_seed`](super::log::entry_seed) of sector 0. Entry 0 of the successor
    /// records both. The sequence does not wrap: the entries of so long a chain fit into no memory.
    pub fn succeed(&mut self, dest: u64, checksum: u32) {
        self.sequence = self.sequence.saturating_add(1);
        // INVARIANT: 0 is at most `ENTRIES_MAX`.
        self.count = 0;
        self.entries.fill(Entry::default());
        // A new log block has room.
        let _ = self.push(Entry {
            source: 0,
            dest,
            size: self.block_size,
            checksum,
        });
    }

    /// Appends an entry.
    ///
    /// # Errors
    ///
    /// [`LogBlockFull`] if there is no room; the log block has not changed then.
    pub fn push(&mut self, entry: Entry) -> Result<(), LogBlockFull> {
        let slot = self.entries.get_mut(self.count).ok_or(LogBlockFull)?;

        *slot = entry;
        // INVARIANT: `count` was an index into `entries`, so it was less than `ENTRIES_MAX`.
        self.count += 1;
        Ok(())
    }

    /// Returns the number of entries that still fit.
    pub fn room(&self) -> usize {
        ENTRIES_MAX.saturating_sub(self.count)
    }

    /// Returns the number of entries.
    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// Returns the entries, oldest first.
    pub fn entries(&self) -> &[Entry] {
        self.entries.get(..self.count).unwrap_or_default()
    }

    /// Returns the number of log blocks of this checkpoint that came before.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Returns the size of a block in bytes.
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Returns the identity of the checkpoint.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Returns the first sector of the relocated first block.
    pub fn sector0(&self) -> u64 {
        self.sector0
    }

    /// Records that the relocated first block now begins at `sector`.
    pub fn set_sector0(&mut self, sector: u64) {
        self.sector0 = sector;
    }

    /// Returns the place of the free map, if there is one.
    pub fn free_map(&self) -> Option<FreeMap> {
        self.free_map
    }

    /// Records the place of the free map. Successors inherit the place.
    pub fn set_free_map(&mut self, free_map: Option<FreeMap>) {
        self.free_map = free_map;
    }

    /// Returns the action to be taken at the next boot.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// Records the action to be taken at the next boot. Successors inherit the action.
    pub fn set_boot(&mut self, boot: Boot) {
        self.boot = boot;
    }

    /// Writes the first sector of the log block to `out`, checksum included.
    ///
    /// The sectors after the first have no meaning; the target writes zeroes there.
    pub fn encode(&self, out: &mut Sector, crc32: Crc32) {
        let map = self.free_map.unwrap_or(FreeMap {
            sector: 0,
            blocks: 0,
            checksum: 0,
        });

        out.fill(0);
        put(out, at::MAGIC, MAGIC.to_le_bytes());
        put(out, at::VERSION, VERSION_1_2.to_le_bytes());
        put(out, at::HEADER_SIZE, (HEADER_SIZE as u16).to_le_bytes());
        put(out, at::BLOCK_SIZE, self.block_size.to_le_bytes());
        put(out, at::COUNT, self.count().to_le_bytes());
        put(out, at::SEQUENCE, self.sequence.to_le_bytes());
        put(out, at::SECTOR0, self.sector0.to_le_bytes());
        put(out, at::UUID, self.identity.uuid);
        put(out, at::TIME, self.identity.time.to_le_bytes());
        put(out, at::FREE_MAP_SECTOR, map.sector.to_le_bytes());
        put(out, at::FREE_MAP_BLOCKS, map.blocks.to_le_bytes());
        put(out, at::FREE_MAP_CHECKSUM, map.checksum.to_le_bytes());
        self.boot.encode(out);

        for (slot, entry) in out
            .get_mut(HEADER_SIZE..)
            .unwrap_or_default()
            .chunks_exact_mut(ENTRY_SIZE)
            .zip(self.entries())
        {
            entry.encode(slot);
        }

        let end = entries_end(HEADER_SIZE, self.count());
        let checksum = header_checksum(out.get(..end).unwrap_or_default(), crc32);
        put(out, at::CHECKSUM, checksum.to_le_bytes());
    }
}
