// SPDX-License-Identifier: GPL-2.0

//! Beginning of a checkpoint, or of its part after a reboot.
//!
//! A new checkpoint places the first block, writes the free map and appends the first entry, in this order.
//! After all that is durable, the target writes the log block, which decides.

use super::{
    block_size::BlockSize,
    chain::Chain,
    checkpoint::Checkpoint,
    discards::Discards,
    free_map::MapBlock,
    grants::Grants,
    log::{
        Boot,
        Crc32,
        Entry,
        FreeMap,
        Header,
        Identity, //
    },
    ranges::{
        Kind,
        Nodes,
        RangeTree, //
    },
    space::Space,
    stock::Ranges,
    window::Window,
};
use kernel::{
    alloc::{
        flags::{
            GFP_NOWAIT,
            __GFP_NOWARN, //
        },
        Flags,
    },
    prelude::*,
};

/// Memory that a checkpoint needs from the start.
pub struct Memory {
    nodes: Nodes,
    chain: Chain,
    // Boxed, so that a stack has room for a checkpoint.
    grants: KBox<Grants>,
    discards: KBox<Discards>,
    cover: KVec<u8>,
}

impl Memory {
    /// Allocates the memory of a checkpoint with blocks of size `block`. Sleeps if `flags` allow it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(block: BlockSize, identity: Identity, flags: Flags) -> Result<Self> {
        Ok(Self {
            nodes: Ranges::stock(flags)?,
            chain: Chain::new(block, identity, flags)?,
            grants: KBox::new(Grants::new(flags)?, flags)?,
            discards: KBox::new(Discards::default(), flags)?,
            cover: KVec::from_elem(0, block.bytes() as usize, flags)?,
        })
    }
}

impl Checkpoint {
    /// Creates the checkpoint of a device of `sectors` sectors. The first block is not relocated yet (see
    /// [`place_first_block`](Self::place_first_block)), and the log is empty (see [`begin`](Self::begin)).
    ///
    /// The ranges of `ranges` are free and aligned to blocks of size `block`, and contain neither block 0 nor
    /// a last block that is cut off by the end of the device. `memory` is for blocks of that size.
    pub fn new(ranges: RangeTree, block: BlockSize, sectors: u64, memory: Memory) -> Self {
        let Memory {
            nodes,
            chain,
            grants,
            discards,
            cover,
        } = memory;
        // INVARIANT: All ranges are free, so none is writable or a backup; their bounds are as the caller
        // says.
        Self {
            free_at_first: ranges.total(Kind::Free),
            ranges: Ranges::new(ranges, nodes),
            space: Space::new(sectors),
            chain,
            grants,
            block,
            first_block: 0,
            discards,
            moved: 0,
            sectors: block.up(sectors),
            window: Window::new(),
            cover,
        }
    }

    /// Takes the first two free blocks for the relocated first block and for its backup. Returns the first
    /// sector of the backup.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are no two free blocks.
    pub fn place_first_block(&mut self) -> Result<u64> {
        let mut take = |kind| {
            let sectors = self.block.sectors();
            self.space
                .take_block(sectors, kind, &mut self.ranges)
                .ok_or(ENOSPC)
        };
        let first_block = take(Kind::FirstBlock)?;
        let backup = take(Kind::Backup)?;
        self.first_block = first_block;
        self.chain.set_first_block(first_block);
        Ok(backup)
    }

    /// Goes on with a checkpoint whose newest log block has `header` and `entries`, and whose ranges were
    /// [rebuilt](super::resume) from the log. At the checkpoint `free_at_first` sectors were free. `memory` is for
    /// blocks of the size in the header.
    pub fn resume(
        ranges: RangeTree,
        free_at_first: u64,
        block: BlockSize,
        sectors: u64,
        memory: Memory,
        header: &Header,
        entries: impl Iterator<Item = Entry>,
    ) -> Self {
        // INVARIANT: `ranges` was rebuilt so that the invariants hold.
        let mut checkpoint = Self::new(ranges, block, sectors, memory);
        checkpoint.free_at_first = free_at_first;
        checkpoint.first_block = header.sector0;
        checkpoint.chain.resume(header, entries);
        checkpoint
    }

    /// Writes the free map, with `write`, to free blocks: all ranges of the tree, which were all free at the
    /// checkpoint. To be called before [`begin`](Self::begin).
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too few free blocks; those of `write`.
    pub fn write_free_map(
        &mut self,
        map: &mut MapBlock,
        crc32: Crc32,
        mut write: impl FnMut(u64, &[u8]) -> Result,
    ) -> Result {
        let mut next: Option<FreeMap> = None;
        let mut position = 0;
        loop {
            self.ranges.replenish(GFP_NOWAIT | __GFP_NOWARN);
            let place = self
                .space
                .take_block(self.block.sectors(), Kind::Backup, &mut self.ranges)
                .ok_or(ENOSPC)?;
            map.begin(next, position);
            // Adjacent ranges, of whatever kind, are one extent.
            let mut extent = position..position;
            self.ranges.visit_from(position, |run| {
                if run.start != extent.end {
                    if !extent.is_empty() {
                        map.push(&extent);
                        position = extent.end;
                    }
                    extent.start = run.start;
                }
                extent.end = run.end;
                map.has_room()
            });
            let is_last = map.has_room();
            if is_last && !extent.is_empty() {
                map.push(&extent);
            }
            let (bytes, written) = map.finish(place, next, crc32);
            write(place, bytes)?;
            next = Some(written);
            if is_last {
                self.chain.set_free_map(written);
                return Ok(());
            }
        }
    }

    /// Records what is to be done at the next boot, for all log blocks from now on.
    pub fn set_boot(&mut self, boot: Boot) {
        self.chain.set_boot(boot);
    }

    /// Ends a checkpoint that was never begun, or whose first block is back in its place. Returns its free ranges:
    /// space that was free or discarded, and all that the checkpoint itself took. The checkpoint must not be
    /// used after this.
    pub fn take_free_space(&mut self) -> RangeTree {
        let mut ranges = self.ranges.take();
        ranges.change_all(|kind| match kind {
            Kind::Writable | Kind::Copying => None,
            _ => Some(Kind::Free),
        });
        ranges
    }

    /// Appends the first entry: the first block, which has the given `checksum`, is saved at sector `backup`.
    pub fn begin(&mut self, backup: u64, checksum: u32) {
        self.chain.begin(Entry {
            source: 0,
            dest: backup,
            size: self.block.bytes(),
            checksum,
        });
    }
}
