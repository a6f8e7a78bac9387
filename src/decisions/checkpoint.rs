// SPDX-License-Identifier: GPL-2.0

//! Decisions in state 1: which old contents a write must preserve, where backups are placed, which log
//! entries record them.
//!
//! Nothing here does I/O. The target calls [`prepare`](Checkpoint::prepare) for each write, carries out the
//! [copies](CopyOut) of the [`Batch`] that the write joined, calls [`append`](Checkpoint::append) to make the
//! log entries of these copies, and [`complete`](Checkpoint::complete) when the log is durable. Only then are
//! the blocks [`Kind::Writable`], and the target submits the writes. A write to free space needs no copy, but
//! a [grant](super::grants), which takes part in the batch like a copy.
//!
//! # Invariants
//!
//! - A range is of kind [`Kind::Writable`] only if it was free at the checkpoint and a durable grant has it, or a
//!   durable log entry says where its old contents are.
//! - A range is of kind [`Kind::Backup`] only if a durable log entry names the range, or if it holds a full
//!   log block of the durable chain. (The backup of the first block is of this kind already while the first
//!   log block is written.)
//! - All ranges start and end at multiples of the block size, and none contains block 0, which is the log
//!   block.
//! - The end of the device may cut off the last block. A range that has this block ends beyond the device,
//!   and is of kind [`Kind::Copying`] or [`Kind::Writable`]: the block is never free, so it holds no backup.
//! - Those of [`Space`] and [`Chain`].

use super::{
    batch::{
        Batch,
        CopyError,
        CopyOut, //
    },
    block_size::BlockSize,
    chain::{
        Appended,
        Chain, //
    },
    discards::{
        turn,
        Discards, //
    },
    grants::{
        Grants,
        NODES_PER_GRANT, //
    },
    log::{
        Crc32,
        Sector, //
    },
    log_block::LogBlock,
    ranges::{
        Kind,
        RangeTree,
        Run, //
    },
    space::Space,
    stock::Ranges,
    window::Window,
};
use core::ops::Range as Span;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Answer to whether a write may be submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All blocks of the write are writable: submit it now.
    Writable,
    /// The write has to wait until the batch has ended, and is then to be looked at again.
    Joined,
    /// The batch has no room for all that the write needs: look at the write again with another batch.
    Later,
    /// There is no free space for the backups that the write needs.
    NoSpace,
}

/// A device in state 1. See the [module](self) for its invariants.
pub struct Checkpoint {
    /// Kinds of all sectors, and the stock of tree nodes.
    pub(super) ranges: Ranges,
    /// Places for backups and full log blocks.
    pub(super) space: Space,
    /// The log blocks.
    pub(super) chain: Chain,
    /// Free space handed to the file system.
    pub(super) grants: KBox<Grants>,
    pub(super) block: BlockSize,
    /// First sector of the relocated first block.
    pub(super) first_block: u64,
    /// Discarded space that is not free yet.
    pub(super) discards: KBox<Discards>,
    /// Number of sectors of backups that were moved so far, since the file system wrote to their place.
    pub(super) moved: u64,
    /// Size of the device in sectors, rounded up to whole blocks.
    pub(super) sectors: u64,
    /// Number of sectors that were free at the checkpoint.
    pub(super) free_at_first: u64,
    /// Prefetching: the window that is copied around a first write.
    pub(super) window: Window,
    /// Block whose sectors after the first stand after the log (see [`cover`](super::cover)).
    pub(super) cover: KVec<u8>,
}

impl Checkpoint {
    /// Returns the range tree.
    pub fn ranges(&self) -> &RangeTree {
        &self.ranges
    }

    /// Calls `visit` with each range, lowest first.
    pub fn for_each(&mut self, mut visit: impl FnMut(&Run)) {
        self.ranges.visit_from(0, |run| {
            visit(run);
            true
        });
    }

    /// Returns the log block in memory.
    pub fn log(&self) -> &LogBlock {
        self.chain.current()
    }

    /// Returns the first sector of the relocated first block, where reads and writes of the first block go.
    pub fn first_block(&self) -> u64 {
        self.first_block
    }

    /// Returns the number of sectors that backups may still take, at once or after a
    /// [`reclaim`](Self::reclaim).
    pub fn free_sectors(&self) -> u64 {
        self.ranges.total(Kind::Free)
            + self.ranges.total(Kind::Discarded)
            + self.ranges.total(Kind::Draining)
    }

    /// Returns the number of sectors that were free at the checkpoint.
    pub fn free_at_first(&self) -> u64 {
        self.free_at_first
    }

    /// Returns whether a drain for the discarded space is worthwhile: it is half of the free space or more.
    pub fn is_reclaim_due(&self) -> bool {
        let discarded = self.ranges.total(Kind::Discarded);
        discarded > 0 && discarded >= self.ranges.total(Kind::Free)
    }

    /// Returns the number of sectors of backups that were moved so far.
    pub fn moved_sectors(&self) -> u64 {
        self.moved
    }

    /// Returns the blocks that `span` touches, as a span of sectors.
    pub fn blocks_of(&self, span: &Span<u64>) -> Span<u64> {
        self.block.down(span.start)..self.block.up(span.end)
    }

    /// Begins a batch that about `writes` first writes will join.
    pub fn open(&mut self, batch: &mut Batch, writes: usize) {
        batch.choose_window(writes, &self.window);
        self.window.reconsider();
    }

    /// Ends the time in which a batch takes copies.
    pub fn close(&mut self) {
        self.space.reserve(&mut self.ranges);
    }

    /// Fills the stock of tree nodes if it is less than half full. Sleeps if `flags` allow it.
    pub fn replenish(&mut self, flags: Flags) {
        self.ranges.replenish(flags);
    }

    /// Finds tree nodes for a decision. Returns whether there are enough.
    pub(super) fn find_nodes(&mut self) -> bool {
        let space = &mut self.space;
        self.ranges.find_nodes(|ranges| space.reserve(ranges))
    }

    /// Decides about a write to the sectors of `span`, none of which is in block 0. `batch` is the open
    /// batch, if there is one.
    ///
    /// Discarded blocks become writable at once, since nothing in them is worth keeping and the log knows of
    /// them. Free blocks become writable when their grant is durable.
    pub fn prepare(&mut self, span: &Span<u64>, mut batch: Option<&mut Batch>) -> Verdict {
        let blocks = self.blocks_of(span);
        let mut verdict = Verdict::Writable;
        let mut position = blocks.start;
        while position < blocks.end {
            let run = self.ranges.run_at(position);
            let end = run.end.min(blocks.end);
            match run.kind {
                Some(Kind::Writable) => position = end,
                Some(Kind::Free) if self.space.overlaps_unreserved(&(position..end)) => {
                    self.space.reserve(&mut self.ranges);
                }
                Some(Kind::Free | Kind::Bad) => {
                    let granted = match self.grants.pending_at(position) {
                        Some(granted) => granted,
                        None => match self.grant(position, batch.as_deref_mut()) {
                            Ok(granted) => granted,
                            Err(verdict) => return verdict,
                        },
                    };
                    verdict = Verdict::Joined;
                    position = end.min(granted);
                }
                Some(Kind::Discarded | Kind::Draining) => {
                    if !self.find_nodes() {
                        return Verdict::NoSpace;
                    }
                    if self.ranges.set(position..end, Kind::Writable).is_err() {
                        return Verdict::NoSpace;
                    }
                    position = end;
                }
                Some(Kind::Copying | Kind::Reserved) => {
                    // Batches end in order, so the end of the open batch is late enough to look again.
                    verdict = Verdict::Joined;
                    position = end;
                }
                None | Some(Kind::Backup | Kind::FirstBlock) => {
                    // A batch of grants alone has no room for any, and must not cost nodes either.
                    let Some(batch) = batch.as_deref_mut().filter(|batch| batch.room() > 0) else {
                        return Verdict::Later;
                    };
                    if !self.find_nodes() {
                        // `find_nodes` has forgotten all free ranges.
                        return Verdict::NoSpace;
                    }
                    match self.copy_out(position..end, &run, batch) {
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

    /// Adds a copy of the first sectors of `span`, a part of `run`, to `batch`. If the sectors are unchanged,
    /// may prefetch more around them. Returns the end of the copy.
    ///
    /// # Errors
    ///
    /// The [`Verdict`] on the write if there can be no copy.
    fn copy_out(&mut self, span: Span<u64>, run: &Run, batch: &mut Batch) -> Result<u64, Verdict> {
        let room = self.block.down(batch.room());
        if room == 0 {
            return Err(Verdict::Later);
        }
        let needed = span.start..span.end.min(span.start.saturating_add(room));
        if run.kind.is_some() {
            return self.begin_copy(&needed, &needed, run.kind, batch);
        }
        let free = self.ranges.total(Kind::Free);
        let before = self.writable_before(needed.start);
        let Some(window) = self.window.around(&needed, before, free, batch.window) else {
            return self.begin_copy(&needed, &needed, None, batch);
        };
        let bounds = window.start.max(self.block.sectors())..window.end.min(self.sectors);
        let source = run.start.max(bounds.start)..run.end.min(bounds.end);
        if source.end.saturating_sub(source.start) > room {
            return Err(Verdict::Later);
        }
        let end = self.begin_copy(&source, &needed, None, batch)?;
        self.prefetch(&bounds, batch);
        Ok(end)
    }

    /// Returns the number of writable sectors that end at `sector`.
    fn writable_before(&self, sector: u64) -> u64 {
        let run = self.ranges.run_at(sector.saturating_sub(1));
        match run.kind {
            Some(Kind::Writable) => sector.saturating_sub(run.start),
            _ => 0,
        }
    }

    /// Adds copies of the unchanged sectors in `bounds` to `batch` as long as there is room, space and nodes.
    fn prefetch(&mut self, bounds: &Span<u64>, batch: &mut Batch) {
        let mut position = bounds.start;
        while position < bounds.end && self.ranges.has_nodes() {
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

    /// Adds a copy of `source`, which is of `kind`, to `batch`, which has room for all of it. `needed` is the
    /// part of `source` that the write needs. Returns the end of the copy. The copy is shorter than `source`
    /// where free space is in smaller pieces.
    ///
    /// # Errors
    ///
    /// [`Verdict::NoSpace`], or [`Verdict::Later`] if no block may be reserved for a full log block.
    fn begin_copy(
        &mut self,
        source: &Span<u64>,
        needed: &Span<u64>,
        kind: Option<Kind>,
        batch: &mut Batch,
    ) -> Result<u64, Verdict> {
        self.reserve_full_log_block()?;
        let sectors = source.end.saturating_sub(source.start);
        let place = self
            .space
            .find(sectors, &mut self.ranges)
            .ok_or(Verdict::NoSpace)?;
        let mut source = source.clone();
        let found = place.end.saturating_sub(place.start);
        if found < sectors {
            // The copy starts with the sectors that are needed.
            source = needed.start..source.end.min(needed.start.saturating_add(found));
        }
        let sectors = source.end.saturating_sub(source.start);
        if sectors == 0 {
            return Err(Verdict::NoSpace);
        }
        // There are nodes, so this does not fail.
        if self.ranges.set(source.clone(), Kind::Copying).is_err() {
            return Err(Verdict::NoSpace);
        }
        let dest = place.start..place.start.saturating_add(sectors);
        self.space
            .take(&dest, kind == Some(Kind::FirstBlock), &mut self.ranges);
        self.ranges.set_node_aside();
        self.chain.expect_entry();
        let needed = needed.start.min(source.end)..needed.end.min(source.end);
        if kind.is_none() {
            let needed = needed.end.saturating_sub(needed.start);
            self.window
                .miss(needed, sectors.saturating_sub(needed), self.block);
        }
        batch.push(CopyOut {
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

    /// Reserves a block for a full log block unless one more entry fits into the log.
    ///
    /// # Errors
    ///
    /// [`Verdict::NoSpace`], or [`Verdict::Later`] if no more blocks may be reserved.
    pub(super) fn reserve_full_log_block(&mut self) -> Result<(), Verdict> {
        if !self.chain.needs_block() {
            return Ok(());
        }
        if !self.chain.may_reserve() {
            return Err(Verdict::Later);
        }
        let sector = self.reserve_last_block().ok_or(Verdict::NoSpace)?;
        self.chain.reserve(sector);
        Ok(())
    }

    /// Reserves a free block. Returns its first sector.
    fn reserve_last_block(&mut self) -> Option<u64> {
        let sectors = self.block.sectors();
        self.space.reserve_last_block(sectors, &mut self.ranges)
    }

    /// Appends the entries of the grants of `batch`, and of those of its copies that have not failed to the log block in memory. Calls
    /// `save` for each log block that this fills; see [`Chain::append`].
    ///
    /// # Errors
    ///
    /// `ENOSPC`, which the invariants of [`Chain`] exclude.
    pub fn append(
        &mut self,
        batch: &Batch,
        failed: impl Fn(usize) -> bool,
        crc32: Crc32,
        save: impl FnMut(usize, &Sector),
    ) -> Result<Appended> {
        self.chain.append(batch, failed, crc32, save)
    }

    /// Rolls back the last [`append`](Self::append), which is to be repeated.
    pub fn roll_back(&mut self, appended: Appended) {
        self.chain.roll_back(appended);
    }

    /// Replaces `sector`, the place of a full log block that could not be written, by another reserved block,
    /// after [`roll_back`](Self::roll_back). The bad place is not used again, unless it is discarded.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there is no free block; `sector` is kept then. `EINVAL` if `sector` is not reserved.
    pub fn replace_full_log_block(&mut self, sector: u64) -> Result {
        // Those set aside for the ends of copies are not for this.
        if !self.find_nodes() {
            return Err(ENOSPC);
        }
        let other = self.reserve_last_block().ok_or(ENOSPC)?;
        if !self.chain.replace_reserved(sector, other) {
            self.set_copied(other..self.end_of(other), Some(Kind::Free));
            return Err(EINVAL);
        }
        self.set_copied(sector..self.end_of(sector), Some(Kind::Bad));
        Ok(())
    }

    /// Ends the copies and grants of `batch`. If one of them has not failed, the log with its entry is durable,
    /// and writes to the copy's source or to what was granted may be submitted. `appended` is the token of the
    /// batch's entries; `failure` returns how the copy with a given number failed, if it did. Calls `granted`
    /// with each run of sectors that was free and has become writable.
    pub fn complete(
        &mut self,
        batch: &Batch,
        appended: &Appended,
        failure: impl Fn(usize) -> Option<CopyError>,
        mut granted: impl FnMut(Span<u64>),
    ) {
        let is_durable = appended.entries() > 0 && !batch.grants_failed;
        for span in &batch.grants {
            for _ in 0..NODES_PER_GRANT {
                self.ranges.release_node();
            }
            if !is_durable {
                self.chain.forget_entry();
            }
            self.grants
                .end(span, is_durable, &mut self.ranges, &mut granted);
        }
        // Adjacent destinations that become of one kind.
        let mut places = (0..0, Kind::Backup);
        for (index, copy) in batch.copies.iter().enumerate() {
            let kind = match failure(index) {
                Some(error) => self.abandon(copy, error),
                None => self.keep(copy),
            };
            self.ranges.release_node();
            if places.0.end != copy.dest || places.1 != kind {
                self.set_copied(places.0, Some(places.1));
                places = (copy.dest..copy.dest, kind);
            }
            places.0.end = copy.dest_end();
        }
        self.set_copied(places.0, Some(places.1));
        for &sector in appended.full_blocks() {
            self.set_copied(sector..self.end_of(sector), Some(Kind::Backup));
        }
    }

    /// Makes the source of `copy` writable. Returns the new kind of its destination.
    fn keep(&mut self, copy: &CopyOut) -> Kind {
        // INVARIANT: The log entry of the copy is durable.
        self.set_copied(copy.source..copy.source_end(), Some(Kind::Writable));
        match copy.from {
            Some(Kind::FirstBlock) => {
                self.first_block = copy.dest;
                Kind::FirstBlock
            }
            Some(Kind::Backup) => {
                self.moved += u64::from(copy.sectors);
                Kind::Backup
            }
            _ => Kind::Backup,
        }
    }

    /// Gives up a copy that failed, which must not be in the log. The source is what it was before. A
    /// destination that is known to be bad is not used again, unless it is discarded. Returns the new kind of
    /// the destination.
    fn abandon(&mut self, copy: &CopyOut, error: CopyError) -> Kind {
        if copy.is_extended() {
            self.window.close();
        }
        self.set_copied(copy.source..copy.source_end(), copy.from);
        self.space.freed_below(copy.dest_end());
        self.chain.forget_entry();
        match error {
            // If the copy was of more than was needed, the next backup there tells which part is bad.
            CopyError::Write if !copy.is_extended() => Kind::Bad,
            _ => Kind::Free,
        }
    }

    /// Changes the kind of a range of kind [`Kind::Copying`] or [`Kind::Reserved`], or of the first part of
    /// one. A node is set aside for the part.
    fn set_copied(&mut self, span: Span<u64>, kind: Option<Kind>) {
        if self.ranges.change(span, kind).is_err() {
            // Cannot happen: copies are not begun without nodes for their end. The range would stay as it is,
            // and the writes to it would wait.
            debug_assert!(false);
        }
    }

    /// Empties a batch whose copies have ended. If no batch in flight needs them, frees the blocks that were
    /// reserved for full log blocks.
    pub fn finish(&mut self, batch: &mut Batch) {
        batch.forget();
        while let Some(sector) = self.chain.release() {
            let end = self.end_of(sector);
            self.set_copied(sector..end, Some(Kind::Free));
            self.space.freed_below(end);
        }
    }

    /// Records that the log block was written in `time` microseconds.
    pub fn log_write_took(&mut self, time: u64) {
        self.window.log_write_took(time);
    }

    /// Counts `blocks` prefetched blocks that were written or discarded.
    pub fn prefetch_hits(&mut self, blocks: u64) {
        self.window.hit(blocks, self.block);
    }

    /// Decides about a discard of the sectors of `span`: its whole blocks that are writable will be free
    /// after a [`reclaim`](Self::reclaim). Calls `freed` with each run of such blocks; writes to these need
    /// [`prepare`](Self::prepare) from then on.
    pub fn discard(&mut self, span: &Span<u64>, freed: impl FnMut(Span<u64>)) {
        self.discards.add(span, self.block, &mut self.ranges, freed);
        if self.ranges.total(Kind::Bad) > 0 {
            // Nobody has written to a bad place, so no write can be in flight. A range is tried again as a whole.
            turn(span, Kind::Bad, Kind::Free, &mut self.ranges);
            self.space.freed_below(self.sectors);
        }
    }

    /// Begins to take back discarded space. The caller then waits until all writes that are in flight now
    /// have completed, and calls [`reclaim`](Self::reclaim). Returns whether there is anything to wait for.
    pub fn begin_reclaim(&mut self) -> bool {
        self.discards.begin_drain(&mut self.ranges)
    }

    /// Frees the space that was discarded before [`begin_reclaim`](Self::begin_reclaim).
    pub fn reclaim(&mut self) {
        let space = &mut self.space;
        self.discards.end_drain(&mut self.ranges, |span| {
            space.freed_below(span.end);
        });
    }

    /// Returns one past the last sector of the block that starts at `sector`.
    fn end_of(&self, sector: u64) -> u64 {
        sector.wrapping_add(self.block.sectors())
    }
}
