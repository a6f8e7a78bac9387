// SPDX-License-Identifier: GPL-2.0

//! State 1: what a write needs before it may go out, where backups go, and what the log says.
//!
//! This file decides; it does no I/O. The target asks [`prepare`](Checkpoint::prepare) for each
//! write, carries out the [copies](struct@Copy) of the [`Batch`] it was given, asks for the log writes with
//! [`lay`](Checkpoint::lay), and when the log is durable says so with
//! [`settle`](Checkpoint::settle). Only then is a block [`Kind::Changed`] and its write may go.
//!
//! # Invariants
//!
//! - A range is of kind [`Kind::Changed`] only if it was free at the checkpoint, or a durable log
//!   entry says where its old contents are.
//! - A range is of kind [`Kind::Backup`] only if a durable log entry names it, or it holds a full
//!   log block of the durable chain.
//! - All ranges start and end at multiples of the block size, and none contains block 0, which is
//!   the log block.
//! - The end of the device may cut off the last block. A range that has it ends beyond the device, and
//!   is of kind [`Kind::Copying`] or [`Kind::Changed`]: it is never free, so it holds nobody's backup.
//! - `places` is empty but while a batch takes copies. Until then the tree still has these sectors as free,
//!   and nobody else is given them: one change of the tree reserves them all.
//! - `unlogged` entries fit: `log.room() + rests.len() * (ENTRIES_MAX - 1) >= unlogged`, so that
//!   laying a batch never needs space that is not there.
//!
//! # Memory
//!
//! No decision waits for memory. Tree nodes come from a stock; when it is empty and cannot be filled,
//! what is optional is left out, and for what is not, free ranges are forgotten and their nodes used.
//! Each copy sets one node of the stock aside until it ends: if copies fail, the range that holds the
//! destinations of several is divided.

use super::{
    batch::{
        Batch,
        Copy,
        COPIES_MAX,
        RESTS_MAX, //
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
    ranges::{
        Kind,
        Nodes,
        RangeTree,
        Run, //
    },
    spans::Spans,
    window::Window,
};
use core::ops::Range as Span;
use kernel::{
    alloc::{
        flags,
        Flags, //
    },
    prelude::*,
};

/// Sectors of free space from which backups are handed out in one go, so that they lie together.
const ARENA_SECTORS: u64 = 16384;

/// The most blocks reserved for full log blocks, beside those that a batch may give back.
const RESERVED_MAX: usize = 3 * RESTS_MAX;

/// Tree nodes that one copy can take: its source, and the destinations of those before it.
const NODES_PER_COPY: usize = 2 * RangeTree::NODES_PER_SET;

/// Tree nodes kept in stock.
const NODES_STOCK: usize = 8 * COPIES_MAX;

/// Tree nodes without which nothing is decided, beside those that are set aside: for a copy, for a block
/// for a full log block, for the destinations of the batch, and for the end of a copy, which gives back what
/// it takes.
const NODES_LOW: usize = NODES_PER_COPY + 3 * RangeTree::NODES_PER_SET;

/// What is to be done with a write.
#[derive(Clone, core::marker::Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All its blocks are settled: it may go out now.
    Settled,
    /// It has to wait until the batch is durable, and is then to be looked at again.
    Joined,
    /// The batch has no room for all it needs: look at it again with another one.
    Later,
    /// There is no free space for what it needs.
    Full,
}

/// How a copy failed.
#[derive(Clone, core::marker::Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The source could not be read.
    ReadFailed,
    /// The destination could not be written.
    WriteFailed,
    /// No destination of the batch could be written, of several: it is not the places that are bad.
    NoneWritten,
}

/// What a checkpoint needs from the start.
pub struct Memory {
    nodes: Nodes,
    rests: KVec<u64>,
    log: KBox<LogBlock>,
    before: KBox<LogBlock>,
}

impl Memory {
    /// Allocates it, for a checkpoint with blocks of size `block`. `ENOMEM`.
    pub fn new(block: BlockSize, identity: Identity, flags: Flags) -> Result<Self> {
        let mut nodes = Nodes::new(NODES_STOCK, flags)?;
        nodes.fill(flags)?;
        let log = || KBox::new(LogBlock::new(block.bytes(), identity, 0), flags);
        Ok(Self {
            nodes,
            rests: KVec::with_capacity(RESERVED_MAX + RESTS_MAX, flags)?,
            log: log()?,
            before: log()?,
        })
    }
}

/// A device in state 1.
pub struct Checkpoint {
    ranges: RangeTree,
    nodes: Nodes,
    // Not in place, so that a checkpoint can be moved without filling the stack.
    log: KBox<LogBlock>,
    /// The log block before the last [`lay`](Self::lay).
    before: KBox<LogBlock>,
    block: BlockSize,
    /// First sector of the live first block.
    live: u64,
    /// Where backups are being placed.
    arena: Span<u64>,
    /// No free range starts at or above this sector, except in the arena.
    ceiling: u64,
    /// First sectors of the blocks reserved for full log blocks.
    rests: KVec<u64>,
    /// Destinations of the batch that takes copies, which the tree still has as free.
    places: Span<u64>,
    /// Copies that have not ended.
    copying: usize,
    /// Entries of batches that are not laid yet.
    unlogged: usize,
    /// Where all sectors of kind [`Kind::Discarded`] are.
    discarded: Spans,
    /// Where all sectors of kind [`Kind::Draining`] are.
    draining: Spans,
    /// Backups moved out of the way so far, in sectors.
    moved: u64,
    /// Size of the device in sectors, rounded up to whole blocks.
    sectors: u64,
    window: Window,
}

impl Checkpoint {
    /// Creates the checkpoint of a device of `sectors` sectors. The first block has no other place yet
    /// ([`take_first_blocks`](Self::take_first_blocks)), and the log is empty ([`begin`](Self::begin)).
    ///
    /// `ranges` is aligned to blocks of size `block` and contains neither block 0 nor a last block
    /// that is cut off by the end of the device; `memory` is for blocks of
    /// that size.
    pub fn new(ranges: RangeTree, block: BlockSize, sectors: u64, memory: Memory) -> Self {
        let Memory {
            nodes,
            rests,
            log,
            before,
        } = memory;
        Self {
            ranges,
            nodes,
            log,
            before,
            block,
            live: 0,
            arena: 0..0,
            ceiling: sectors,
            rests,
            places: 0..0,
            copying: 0,
            unlogged: 0,
            discarded: Spans::default(),
            draining: Spans::default(),
            moved: 0,
            sectors: block.up(sectors),
            window: Window::new(),
        }
    }

    /// Takes the first two free blocks for the live first block and its backup. Returns the sector of
    /// that backup.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are no two free blocks.
    pub fn take_first_blocks(&mut self) -> Result<u64> {
        let live = self.take_block(Kind::Live).ok_or(ENOSPC)?;
        let backup = self.take_block(Kind::Backup).ok_or(ENOSPC)?;
        self.live = live;
        self.log.set_sector0(live);
        Ok(backup)
    }

    /// Gives up a checkpoint that was never begun: all its space is free again. Nothing may be asked of
    /// it any more.
    pub fn take_ranges(&mut self) -> RangeTree {
        let taken = |kind| matches!(kind, Some(Kind::Live | Kind::Backup));
        while let Some(run) = self.ranges.first_from(0, |run| taken(run.kind)) {
            let free = Some(Kind::Free);
            let span = run.start..run.end;
            if self.ranges.set(span, free, &mut self.nodes).is_err() {
                break;
            }
        }
        core::mem::replace(&mut self.ranges, RangeTree::new())
    }

    /// Makes the first entry: the first block, of `checksum`, is saved at sector `backup`.
    pub fn begin(&mut self, backup: u64, checksum: u32) {
        let entry = Entry {
            source: 0,
            dest: backup,
            size: self.block.bytes(),
            checksum,
        };
        // An empty log block has room.
        let _ = self.log.push(entry);
    }

    /// The ranges.
    pub fn ranges(&self) -> &RangeTree {
        &self.ranges
    }

    /// The log block as it is in memory.
    pub fn log(&self) -> &LogBlock {
        &self.log
    }

    /// Where reads and writes of the first block go: a sector.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// The sectors that backups may still take, at once or after a [`reclaim`](Self::reclaim).
    pub fn free_sectors(&self) -> u64 {
        self.ranges.total(Kind::Free) + self.discarded_sectors()
    }

    /// The sectors that were discarded and will be free after a [`reclaim`](Self::reclaim).
    fn discarded_sectors(&self) -> u64 {
        self.ranges.total(Kind::Discarded) + self.ranges.total(Kind::Draining)
    }

    /// Returns whether what was discarded is worth a drain already: it is half of the free space or more.
    pub fn is_reclaim_due(&self) -> bool {
        let discarded = self.ranges.total(Kind::Discarded);
        discarded > 0 && discarded >= self.ranges.total(Kind::Free)
    }

    /// The sectors of backups that were moved out of the way so far.
    pub fn moved_sectors(&self) -> u64 {
        self.moved
    }

    /// The blocks that `span` touches, in sectors.
    pub fn blocks_of(&self, span: &Span<u64>) -> Span<u64> {
        self.block.down(span.start)..self.block.up(span.end)
    }

    /// Begins a batch that about `writes` first writes will join.
    pub fn open(&mut self, batch: &mut Batch, writes: usize) {
        batch.expect(writes, &self.window);
        self.window.reconsider();
    }

    /// Ends what [`open`](Self::open) began: the batch takes no more copies.
    pub fn close(&mut self) {
        self.reserve_places();
    }

    /// Reserves in the tree the destinations that were handed out since the last time.
    fn reserve_places(&mut self) {
        let places = core::mem::take(&mut self.places);
        let reserved = Some(Kind::Reserved);
        if self.ranges.set(places, reserved, &mut self.nodes).is_err() {
            // Cannot be: nothing is decided without nodes left for this.
            debug_assert!(false);
        }
    }

    /// Fills the stock of tree nodes with `flags` if it is low.
    pub fn replenish(&mut self, flags: Flags) {
        if self.nodes.len() < NODES_STOCK / 2 {
            // What there is is enough for now, or `find_nodes` finds some.
            let _ = self.nodes.fill(flags);
        }
    }

    /// Whether there are tree nodes for a decision.
    fn has_nodes(&self) -> bool {
        self.nodes.len() >= NODES_LOW.saturating_add(self.copying)
    }

    /// The same; if need be it allocates some, and if there are none, forgets free ranges, lowest
    /// first, to have their nodes.
    fn find_nodes(&mut self) -> bool {
        if !self.has_nodes() {
            self.replenish(flags::GFP_NOWAIT | flags::__GFP_NOWARN);
        }
        if !self.has_nodes() {
            self.reserve_places();
        }
        let mut position = 0;
        while !self.has_nodes() && self.ranges.total(Kind::Free) > 0 {
            let free = self
                .ranges
                .first_from(position, |run| run.kind == Some(Kind::Free));
            let Some(run) = free else {
                break;
            };
            position = run.end;
            self.ranges.forget(&run, &mut self.nodes);
        }
        self.has_nodes()
    }

    /// Decides about a write to the sectors of `span`, none of which is in block 0. `batch` is the
    /// batch that takes copies at the moment, if there is one.
    ///
    /// Free blocks become changed at once: nothing of theirs is worth keeping.
    pub fn prepare(&mut self, span: &Span<u64>, mut batch: Option<&mut Batch>) -> Verdict {
        let blocks = self.blocks_of(span);
        let mut verdict = Verdict::Settled;
        let mut position = blocks.start;
        while position < blocks.end {
            let run = self.ranges.run_at(position);
            let end = run.end.min(blocks.end);
            match run.kind {
                Some(Kind::Changed) => position = end,
                Some(Kind::Free) if position < self.places.end && self.places.start < end => {
                    self.reserve_places();
                }
                Some(Kind::Free | Kind::Discarded | Kind::Draining) => {
                    if !self.find_nodes() {
                        return Verdict::Full;
                    }
                    let changed = Some(Kind::Changed);
                    if self
                        .ranges
                        .set(position..end, changed, &mut self.nodes)
                        .is_err()
                    {
                        return Verdict::Full;
                    }
                    position = end;
                }
                Some(Kind::Copying | Kind::Reserved) => {
                    // Batches end in order, so the end of the one that is open now is late enough.
                    verdict = Verdict::Joined;
                    position = end;
                }
                None | Some(Kind::Backup | Kind::Live) => {
                    let Some(batch) = batch.as_deref_mut() else {
                        return Verdict::Later;
                    };
                    if !self.find_nodes() {
                        // All free ranges are forgotten by now.
                        return Verdict::Full;
                    }
                    match self.copy(position..end, &run, batch) {
                        Ok(copied) => position = copied,
                        Err(verdict) => return verdict,
                    }
                    verdict = Verdict::Joined;
                }
            }
        }
        if verdict == Verdict::Joined && batch.is_none() {
            return Verdict::Later;
        }
        verdict
    }

    /// Adds a copy of the first sectors of `span`, a part of `run`, to `batch`, and where they are
    /// unchanged perhaps of more around them. Returns where the copy ends.
    fn copy(&mut self, span: Span<u64>, run: &Run, batch: &mut Batch) -> Result<u64, Verdict> {
        let room = self.block.down(batch.room());
        if room == 0 {
            return Err(Verdict::Later);
        }
        let needed = span.start..span.end.min(span.start.saturating_add(room));
        if run.kind.is_some() {
            return self.begin_copy(&needed, &needed, run.kind, batch);
        }
        let free = self.ranges.total(Kind::Free);
        let behind = self.changed_before(needed.start);
        let Some(window) = self.window.around(&needed, behind, free, batch.window) else {
            return self.begin_copy(&needed, &needed, None, batch);
        };
        let bounds = window.start.max(self.block.sectors())..window.end.min(self.sectors);
        let source = run.start.max(bounds.start)..run.end.min(bounds.end);
        if source.end.saturating_sub(source.start) > room {
            return Err(Verdict::Later);
        }
        let end = self.begin_copy(&source, &needed, None, batch)?;
        self.copy_ahead(&bounds, batch);
        Ok(end)
    }

    /// How many changed sectors end at `sector`.
    fn changed_before(&self, sector: u64) -> u64 {
        let run = self.ranges.run_at(sector.saturating_sub(1));
        match run.kind {
            Some(Kind::Changed) => sector.saturating_sub(run.start),
            _ => 0,
        }
    }

    /// Adds copies of what is unchanged in `bounds` to `batch`, as far as it has room.
    fn copy_ahead(&mut self, bounds: &Span<u64>, batch: &mut Batch) {
        let mut position = bounds.start;
        while position < bounds.end && self.has_nodes() {
            let run = self.ranges.run_at(position);
            let source = position..run.end.min(bounds.end);
            if run.kind.is_some() {
                position = source.end;
                continue;
            }
            if source.end.saturating_sub(source.start) > batch.room() {
                return;
            }
            let none = position..position;
            match self.begin_copy(&source, &none, None, batch) {
                Ok(copied) => position = copied,
                Err(_) => return,
            }
        }
    }

    /// Adds a copy of `source`, which is of `kind`, to `batch`, which has room for it; `needed` is the
    /// part of it that cannot do without. Returns where the copy ends: it is shorter where there is
    /// less free space in one piece.
    fn begin_copy(
        &mut self,
        source: &Span<u64>,
        needed: &Span<u64>,
        kind: Option<Kind>,
        batch: &mut Batch,
    ) -> Result<u64, Verdict> {
        self.reserve_rest()?;
        let dest = self
            .allocate(source.end.saturating_sub(source.start))
            .ok_or(Verdict::Full)?;
        let mut source = source.clone();
        let sectors = dest.end.saturating_sub(dest.start);
        if sectors < source.end.saturating_sub(source.start) {
            // From what is needed on.
            source = needed.start..source.end.min(needed.start.saturating_add(sectors));
        }
        let sectors = source.end.saturating_sub(source.start);
        let dest = dest.start..dest.start.saturating_add(sectors);
        self.arena.start = dest.end;
        if sectors == 0 {
            return Err(Verdict::Full);
        }
        // The live first block is a range of its own when it gets there, so its place is one too.
        let is_live = kind == Some(Kind::Live);
        if is_live || self.places.end != dest.start {
            self.reserve_places();
            self.places = dest.start..dest.start;
        }
        self.places.end = dest.end;
        if is_live {
            self.reserve_places();
        }
        // There are nodes.
        let copying = Some(Kind::Copying);
        if self
            .ranges
            .set(source.clone(), copying, &mut self.nodes)
            .is_err()
        {
            return Err(Verdict::Full);
        }
        self.copying += 1;
        self.unlogged += 1;
        let needed = needed.start.min(source.end)..needed.end.min(source.end);
        if kind.is_none() {
            let needed = needed.end.saturating_sub(needed.start);
            self.window
                .miss(needed, sectors.saturating_sub(needed), self.block);
        }
        batch.push(Copy {
            source: source.start,
            dest: dest.start,
            sectors: sectors as u32,
            page: batch.pages,
            checksum: 0,
            from: kind,
            needed: (needed.start, needed.end),
        });
        Ok(source.end)
    }

    /// Makes sure that one more entry fits into the log, reserving a block for a full log block if
    /// it does not.
    fn reserve_rest(&mut self) -> Result<(), Verdict> {
        let room = self.log.room() + self.rests.len() * (ENTRIES_MAX - 1);
        if room > self.unlogged {
            return Ok(());
        }
        if self.rests.len() >= RESERVED_MAX {
            return Err(Verdict::Later);
        }
        let rest = self.take_rest_block().ok_or(Verdict::Full)?;
        // There is capacity.
        let _ = self.rests.push_within_capacity(rest);
        Ok(())
    }

    /// Finds up to `sectors` sectors of free space that lie together.
    fn allocate(&mut self, sectors: u64) -> Option<Span<u64>> {
        let free = self.free_in_arena()?;
        let end = free.end.min(free.start.saturating_add(sectors));
        self.arena.start = end;
        Some(free.start..end)
    }

    /// The first free space of the arena, which goes on to where there is some.
    ///
    /// Space is taken from the highest free range downwards, since file systems fill a device from
    /// below, in arenas that are filled upwards, so that backups made together lie together.
    fn free_in_arena(&mut self) -> Option<Span<u64>> {
        while self.ranges.total(Kind::Free) > 0 {
            while self.arena.start < self.arena.end {
                let run = self.ranges.run_at(self.arena.start);
                let end = run.end.min(self.arena.end);
                if run.kind == Some(Kind::Free) {
                    return Some(self.arena.start..end);
                }
                self.arena.start = end;
            }
            // What is looked for now are free ranges of the tree.
            self.reserve_places();
            let mut run = self.ranges.last_below(self.ceiling, Kind::Free);
            if run.is_none() {
                self.ceiling = self.sectors;
                run = self.ranges.last_below(self.ceiling, Kind::Free);
            }
            let run = run?;
            let end = run.end.min(self.ceiling);
            self.arena = run.start.max(end.saturating_sub(ARENA_SECTORS))..end;
            self.ceiling = self.arena.start;
        }
        None
    }

    /// Takes one free block and makes it of `kind`. Returns its first sector.
    fn take_block(&mut self, kind: Kind) -> Option<u64> {
        let span = self.allocate(self.block.sectors())?;
        self.ranges
            .set(span.clone(), Some(kind), &mut self.nodes)
            .ok()?;
        Some(span.start)
    }

    /// Takes a block for a full log block, from the end of the free space at hand, so that the backups
    /// made before and after it lie together. Returns its first sector.
    fn take_rest_block(&mut self) -> Option<u64> {
        let end = self.free_in_arena()?.end;
        let start = end.saturating_sub(self.block.sectors());
        self.ranges
            .set(start..end, Some(Kind::Reserved), &mut self.nodes)
            .ok()?;
        Some(start)
    }

    /// Takes back a copy that failed, which must not be laid. The source is what it was; a
    /// destination that is known to be bad is not used again, unless it is discarded. Returns what the
    /// destination is now.
    fn abandon(&mut self, copy: &Copy, outcome: Failure) -> Kind {
        if copy.is_extended() {
            self.window.close();
        }
        self.set_copied(copy.source..copy.source_end(), copy.from);
        self.ceiling = self.ceiling.max(copy.dest_end());
        self.unlogged = self.unlogged.saturating_sub(1);
        match outcome {
            // Nothing in it is worth keeping, as if it had been written. If it was more than was needed,
            // which part of it is bad will be known from the next backup there.
            Failure::WriteFailed if !copy.is_extended() => Kind::Changed,
            _ => Kind::Free,
        }
    }

    /// Changes the kind of a range of kind [`Kind::Copying`] or [`Kind::Reserved`], or of the first part
    /// of one; for the part a node is set aside.
    fn set_copied(&mut self, span: Span<u64>, kind: Option<Kind>) {
        if self.ranges.change(span, kind, &mut self.nodes).is_err() {
            // Cannot be: copies are not begun without nodes for their end. The range would
            // stay as it is, and its writers wait.
            debug_assert!(false);
        }
    }

    /// Enters the copies of `batch` that did not fail into the log block in memory. For each log
    /// block that is full thereby, calls `rest` with the sector where it is to be saved and its
    /// first sector's bytes; the others are zero. All of these must be written before the log
    /// block itself, which is then to be written to sector 0. Returns the number of entries.
    ///
    /// # Errors
    ///
    /// `ENOSPC` cannot be, as the invariants say.
    // Not where it is called, from where I/O is submitted too: it has a sector on the stack.
    #[inline(never)]
    pub fn lay(
        &mut self,
        batch: &Batch,
        failed: impl Fn(usize) -> bool,
        crc32: Crc32,
        mut rest: impl FnMut(u64, &Sector),
    ) -> Result<usize> {
        *self.before = *self.log;
        let mut laid = 0;
        for (index, copy) in batch.copies.iter().enumerate() {
            if failed(index) {
                continue;
            }
            if self.log.room() == 0 {
                let dest = self.take_rest().ok_or(ENOSPC)?;
                let mut sector = [0; SECTOR_SIZE];
                self.log.encode(&mut sector, crc32);
                rest(dest, &sector);
                let checksum = self.rest_checksum(&sector, crc32);
                self.log.succeed(dest, checksum);
            }
            let checksum = if copy.is_live() { 0 } else { copy.checksum };
            let entry = Entry {
                source: copy.source,
                dest: copy.dest,
                size: copy.bytes(),
                checksum,
            };
            self.log.push(entry).map_err(|_| ENOSPC)?;
            if copy.is_live() {
                self.log.set_sector0(copy.dest);
            }
            self.unlogged = self.unlogged.saturating_sub(1);
            laid += 1;
        }
        Ok(laid)
    }

    /// Takes back the last [`lay`](Self::lay), of `laid` entries, which called `rest` with `rests`:
    /// it is to be done once more, since another copy has failed.
    pub fn unlay(&mut self, laid: usize, rests: &[u64]) {
        *self.log = *self.before;
        self.unlogged += laid;
        for &rest in rests {
            // There is capacity for what one batch took.
            let _ = self.rests.push_within_capacity(rest);
        }
        let count = rests.len().min(self.rests.len());
        self.rests.rotate_right(count);
    }

    /// Takes `rest`, which could not be written, out of the blocks reserved for full log blocks, after
    /// [`unlay`](Self::unlay), and reserves another one. The place is not used again, unless it is
    /// discarded.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is no free block; `rest` is kept then.
    pub fn replace_rest(&mut self, rest: u64) -> Result {
        let index = self
            .rests
            .iter()
            .position(|&other| other == rest)
            .ok_or(EINVAL)?;
        let other = self.take_rest_block().ok_or(ENOSPC)?;
        if let Some(place) = self.rests.get_mut(index) {
            *place = other;
        }
        self.set_copied(rest..self.end_of(rest), Some(Kind::Changed));
        Ok(())
    }

    /// The block that was reserved first: whoever writes to it waits for that to be over.
    fn take_rest(&mut self) -> Option<u64> {
        if !self.rests.is_empty() {
            self.rests.rotate_left(1);
        }
        self.rests.pop()
    }

    /// The checksum of a full log block: one sector and zeroes.
    fn rest_checksum(&self, sector: &Sector, crc32: Crc32) -> u32 {
        const ZEROES: &Sector = &[0; SECTOR_SIZE];
        let mut checksum = crc32(entry_seed(0, self.block.bytes()), sector);
        for _ in 1..self.block.sectors() {
            checksum = crc32(checksum, ZEROES);
        }
        checksum
    }

    /// The log that has `rest`, a full log block, in it is durable.
    pub fn settle_rest(&mut self, rest: u64) {
        self.set_copied(rest..self.end_of(rest), Some(Kind::Backup));
    }

    /// Ends the copies of `batch`, whose log is durable if one of them did not fail: writes to the sources of
    /// those may go out. `failure` says how a copy failed, by its number.
    pub fn settle(&mut self, batch: &Batch, failure: impl Fn(usize) -> Option<Failure>) {
        // Destinations that follow each other and are of one kind.
        let mut places = (0..0, Kind::Backup);
        for (index, copy) in batch.copies.iter().enumerate() {
            let kind = match failure(index) {
                Some(outcome) => self.abandon(copy, outcome),
                None => self.keep(copy),
            };
            self.copying = self.copying.saturating_sub(1);
            if places.0.end != copy.dest || places.1 != kind {
                self.set_copied(places.0, Some(places.1));
                places = (copy.dest..copy.dest, kind);
            }
            places.0.end = copy.dest_end();
        }
        self.set_copied(places.0, Some(places.1));
    }

    /// Has writes to the source of `copy` go out. Returns what the destination is now.
    fn keep(&mut self, copy: &Copy) -> Kind {
        self.set_copied(copy.source..copy.source_end(), Some(Kind::Changed));
        match copy.from {
            Some(Kind::Live) => {
                self.live = copy.dest;
                Kind::Live
            }
            Some(Kind::Backup) => {
                self.moved += u64::from(copy.sectors);
                Kind::Backup
            }
            _ => Kind::Backup,
        }
    }

    /// Says that the log block was written in `time` microseconds.
    pub fn log_took(&mut self, time: u64) {
        self.window.log_took(time);
    }

    /// `blocks` blocks that were backed up ahead of their first write were written or discarded.
    pub fn hit(&mut self, blocks: u64) {
        self.window.hit(blocks, self.block);
    }

    /// Empties a batch whose copies are all settled or abandoned, and gives back the blocks that
    /// were reserved for full log blocks if no batch needs them any more.
    pub fn finish(&mut self, batch: &mut Batch) {
        batch.forget();
        if self.unlogged > 0 {
            return;
        }
        while let Some(rest) = self.rests.pop() {
            self.set_copied(rest..self.end_of(rest), Some(Kind::Free));
            self.ceiling = self.ceiling.max(self.end_of(rest));
        }
    }

    /// Decides about a discard of the sectors of `span`: whole blocks that were written since the
    /// checkpoint will be free again, after a [`reclaim`](Self::reclaim). Calls `freed` with each
    /// such run, from which moment a write to it has to be [`prepare`](Self::prepare)d.
    pub fn discard(&mut self, span: &Span<u64>, mut freed: impl FnMut(Span<u64>)) {
        let end = self.block.down(span.end);
        let mut position = self.block.up(span.start);
        while position < end {
            if !self.has_nodes() {
                return;
            }
            let run = self.ranges.run_at(position);
            let run_end = run.end.min(end);
            if run.kind == Some(Kind::Changed) {
                let discarded = Some(Kind::Discarded);
                let set = self
                    .ranges
                    .set(position..run_end, discarded, &mut self.nodes);
                if set.is_ok() {
                    self.discarded.add(position..run_end);
                    freed(position..run_end);
                }
            }
            position = run_end;
        }
    }

    /// Begins to take back what was discarded. The caller then waits until all writes that are in flight
    /// now have ended, and calls [`reclaim`](Self::reclaim). Returns whether there is anything to wait for.
    pub fn begin_reclaim(&mut self) -> bool {
        if self.ranges.total(Kind::Discarded) == 0 {
            return false;
        }
        let discarded = core::mem::take(&mut self.discarded);
        for span in discarded.spans() {
            self.turn(span, Kind::Discarded, Kind::Draining);
        }
        self.draining = discarded;
        true
    }

    /// Makes free what was discarded before [`begin_reclaim`](Self::begin_reclaim).
    pub fn reclaim(&mut self) {
        let draining = core::mem::take(&mut self.draining);
        for span in draining.spans() {
            self.turn(span, Kind::Draining, Kind::Free);
            self.ceiling = self.ceiling.max(span.end);
        }
    }

    /// Makes all sectors of kind `from` within `span` of kind `to`. O(the ranges in `span`).
    fn turn(&mut self, span: &Span<u64>, from: Kind, to: Kind) {
        let mut position = span.start;
        loop {
            let next = self.ranges.first_from(position, |run| {
                run.start >= span.end || run.kind == Some(from)
            });
            let Some(run) = next.filter(|run| run.start < span.end) else {
                return;
            };
            // A whole range takes no more nodes than it gives.
            let turned = self
                .ranges
                .change(run.start..run.end, Some(to), &mut self.nodes);
            if turned.is_err() {
                debug_assert!(false);
                return;
            }
            position = run.end;
        }
    }

    /// One past the last sector of the block that starts at `sector`.
    fn end_of(&self, sector: u64) -> u64 {
        sector.wrapping_add(self.block.sectors())
    }
}
