// SPDX-License-Identifier: GPL-2.0

//! The I/O of a batch of first writes: read what they replace, write it elsewhere, make both and
//! the log durable. Then, and only then, the writes may go.
//!
//! A [`Slot`] goes through the [`Phase`]s in order. Each phase starts its I/O and ends when the
//! last of it has ended, which [`Flight`] counts. Batches are read side by side; they enter the log,
//! and write it, one after the other, in the order in which they were begun.
//!
//! # Order on the device
//!
//! 1. The backups are written, and the log blocks that are full with them in it.
//! 2. When all of these have ended, the log block is written.
//! 3. When that has ended, the writes go out. Whatever subset of them a power cut leaves, the log that
//!    says how to undo them is there, and so is what it points to.
//!
//! 1 and 2 are written with `FUA`: what has ended is durable. A flush before 2 would do as well, but the
//! device would have to write all that anybody has left in its cache. Where it knows no FUA, the block
//! layer puts one flush in the place of those of all writes that are under way together.

use super::{
    Bow,
    SLOTS, //
};
use crate::{
    abstractions::{
        bio::{
            BioList,
            BioSet,
            Order,
            OwnOperation,
            Piece,
            Status,
            Submitter,
            BIO_PAGES_MAX, //
        },
        buffer::{
            crc32,
            Buffer, //
        },
        device::Device,
    },
    decisions::{
        batch::{
            Batch,
            Copy,
            BATCH_PAGES,
            COPIES_MAX,
            PAGE_BYTES,
            RESTS_MAX, //
        },
        checkpoint::{
            Checkpoint,
            Failure, //
        },
        log::{
            entry_seed,
            Sector,
            SECTOR_SIZE, //
        },
    },
};
use core::ops::Range;
use kernel::{
    alloc::Flags,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        atomic::{
            ordering::{
                Full,
                Relaxed, //
            },
            Atomic, //
        },
        Arc,
        ArcBorrow, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

// The decisions count in pages of the buffer.
const _: () = assert!(PAGE_BYTES == PAGE_SIZE);
const _: () = assert!(BATCH_PAGES <= BIO_PAGES_MAX);

/// The page of a slot's buffer that the log block is written from. Of this page and those after it only
/// the first sector is ever filled in; the others stay zero, as the format has it.
const LOG_PAGE: usize = BATCH_PAGES;

/// The first page of a slot's buffer that full log blocks are written from.
const REST_PAGE: usize = LOG_PAGE + 1;

/// How backups are written, and full log blocks.
const WRITE_BACKUP: OwnOperation = if cfg!(bow_fault = "backups_without_fua") {
    OwnOperation::Write
} else {
    OwnOperation::WriteFua
};

/// How the log block is written.
const WRITE_LOG: OwnOperation = if cfg!(bow_fault = "log_without_fua") {
    OwnOperation::Write
} else {
    OwnOperation::WriteFua
};

/// What a bio of the target's own is part of.
#[derive(Clone, core::marker::Copy)]
pub(crate) struct Tag {
    slot: usize,
    part: Part,
}

#[derive(Clone, core::marker::Copy)]
enum Part {
    /// The reading of one copy.
    Read(usize),
    /// The writing of some copies.
    Write { first: usize, count: usize },
    /// A full log block.
    Rest(usize),
    /// The log block.
    Log,
}

/// Places for full log blocks that may fail before a batch does.
const RETRIES_MAX: usize = 4;

/// What the ends of I/O say about a slot. Changed in any context, without a lock.
pub(super) struct Flight {
    /// I/O that has not ended, and one while more is being started.
    pending: Atomic<u32>,
    /// For each copy, the status of the I/O that failed, or 0.
    reads: [Atomic<u32>; COPIES_MAX],
    writes: [Atomic<u32>; COPIES_MAX],
    /// For each full log block, the status of the write that failed, or 0.
    rests: [Atomic<u32>; RESTS_MAX],
    /// The status of the log write that failed, or 0.
    log: Atomic<u32>,
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            pending: Atomic::new(0),
            reads: core::array::from_fn(|_| Atomic::new(0)),
            writes: core::array::from_fn(|_| Atomic::new(0)),
            rests: core::array::from_fn(|_| Atomic::new(0)),
            log: Atomic::new(0),
        }
    }

    fn reset(&self) {
        for (read, write) in self.reads.iter().zip(&self.writes) {
            read.store(0, Relaxed);
            write.store(0, Relaxed);
        }
        self.forget_rests();
        self.log.store(0, Relaxed);
    }

    /// Starts a phase; it does not end until all of it was started.
    fn launch(&self) {
        self.pending.store(1, Relaxed);
    }

    fn add(&self) {
        self.pending.add(1, Relaxed);
    }

    /// One I/O ended, or all were started. Returns whether that was the last.
    fn landed(&self) -> bool {
        self.pending.fetch_sub(1, Full) == 1
    }

    fn has_landed(&self) -> bool {
        self.pending.fetch_add(0, Full) == 0
    }

    fn record(&self, part: Part, status: Status) {
        if status == Status::OK {
            return;
        }
        let set = |place: Option<&Atomic<u32>>| {
            if let Some(place) = place {
                place.store(status.as_raw(), Relaxed);
            }
        };
        match part {
            Part::Read(index) => set(self.reads.get(index)),
            Part::Write { first, count } => {
                for index in first..first + count {
                    set(self.writes.get(index));
                }
            }
            Part::Rest(index) => set(self.rests.get(index)),
            Part::Log => set(Some(&self.log)),
        }
    }

    /// How copy number `index` failed, if it did.
    fn failure(&self, index: usize) -> Option<(Failure, Status)> {
        let status = |list: &[Atomic<u32>]| {
            let raw = list.get(index).map_or(0, |status| status.load(Relaxed));
            (raw != 0).then(|| Status::from_raw(raw))
        };
        if let Some(failed) = status(&self.reads) {
            return Some((Failure::ReadFailed, failed));
        }
        status(&self.writes).map(|failed| (Failure::WriteFailed, failed))
    }

    /// Has all copies fail: no log block on the device names them.
    fn fail_copies(&self, status: Status) {
        let count = self.writes.len();
        self.record(Part::Write { first: 0, count }, status);
    }

    /// The writes of copies are made once more.
    fn forget_writes(&self) {
        for write in &self.writes {
            write.store(0, Relaxed);
        }
    }

    /// Full log blocks are written once more.
    fn forget_rests(&self) {
        for rest in &self.rests {
            rest.store(0, Relaxed);
        }
    }

    /// The first full log block that could not be written.
    fn rest_failure(&self) -> Option<(usize, Status)> {
        let failure = |(index, status): (usize, &Atomic<u32>)| {
            let raw = status.load(Relaxed);
            (raw != 0).then(|| (index, Status::from_raw(raw)))
        };
        self.rests.iter().enumerate().find_map(failure)
    }

    fn log_failure(&self) -> Option<Status> {
        let raw = self.log.load(Relaxed);
        (raw != 0).then(|| Status::from_raw(raw))
    }
}

impl Submitter for Bow {
    type Tag = Tag;

    fn bios(&self) -> &BioSet<Self> {
        &self.bios
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn ended(this: ArcBorrow<'_, Self>, tag: Tag, status: Status) {
        if let Some(flight) = this.flights.get(tag.slot) {
            flight.record(tag.part, status);
            if flight.landed() {
                Arc::from(this).wake();
            }
        }
    }
}

/// How far a batch is.
#[derive(Clone, core::marker::Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Has none.
    Idle,
    /// Takes up writes.
    Open,
    /// Takes up no more, and waits for I/O of the live first block to end.
    Closed,
    /// What they replace is being read, or waits for the batch before to write the log.
    Reading,
    /// It is being written to its new places, and so are log blocks that are full thereby; or it
    /// waits for the batch before to end.
    Writing,
    /// The log block is being written.
    Logging,
}

/// A batch, with its memory and the bios that wait for it.
pub(super) struct Slot {
    number: usize,
    phase: Phase,
    pub(super) batch: Batch,
    pub(super) bios: BioList<Bow>,
    buffer: Arc<Buffer>,
    /// How many of its copies are in the log in memory; none before the log was asked.
    laid: Option<usize>,
    /// Each copy is written by itself, since a write failed that may have been of several.
    apart: bool,
    /// Places for full log blocks that could not be written.
    retries: usize,
    /// First sectors of the full log blocks of this batch.
    rests: KVec<u64>,
    /// The first sector of the log block as it will be.
    log: Sector,
    /// When the write of the log block began.
    log_begun: Instant<Monotonic>,
}

/// What a step of a slot led to.
pub(super) enum Step {
    /// It waits for I/O, or for its turn.
    Waiting,
    /// It went on.
    Moved,
    /// It has ended; its bios are to be looked at again, but those that `failure` finds.
    Ended {
        /// Whether the log was written.
        logged: bool,
    },
    /// The log could not be written.
    LogFailed(Status),
}

impl Slot {
    fn new(number: usize, flags: Flags) -> Result<Self> {
        Ok(Self {
            number,
            phase: Phase::Idle,
            batch: Batch::new(flags)?,
            bios: BioList::new(),
            buffer: Arc::new(Buffer::new(REST_PAGE + RESTS_MAX)?, flags)?,
            laid: None,
            apart: false,
            retries: 0,
            rests: KVec::with_capacity(RESTS_MAX, flags)?,
            log: [0; SECTOR_SIZE],
            log_begun: Instant::now(),
        })
    }

    /// All slots of a device.
    pub(super) fn all(flags: Flags) -> Result<KVec<Self>> {
        let mut slots = KVec::with_capacity(SLOTS, flags)?;
        for number in 0..SLOTS {
            slots.push(Self::new(number, flags)?, flags)?;
        }
        Ok(slots)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Whether it is writing the log.
    pub(super) fn is_logging(&self) -> bool {
        self.phase == Phase::Logging
    }

    /// Whether the live first block is being moved, so that nothing may be sent to it.
    pub(super) fn moves_live(&self) -> bool {
        self.batch.moves_live()
    }

    /// Begins to take up writes, about `writes` of them.
    pub(super) fn open(&mut self, bow: &Bow, checkpoint: &mut Checkpoint, writes: usize) {
        self.phase = Phase::Open;
        self.apart = false;
        self.retries = 0;
        checkpoint.open(&mut self.batch, writes);
        if let Some(flight) = self.flight(bow) {
            flight.reset();
        }
    }

    /// Takes up no more writes, and starts to copy if there is anything to copy.
    pub(super) fn close(&mut self, bow: &Arc<Bow>, checkpoint: &mut Checkpoint) {
        checkpoint.close();
        if self.batch.copies().is_empty() && self.bios.is_empty() {
            self.phase = Phase::Idle;
        } else if self.may_read(bow) {
            self.read(bow);
        } else {
            self.phase = Phase::Closed;
        }
    }

    /// Returns whether the reads may start: I/O of the live first block has to end before that is copied,
    /// and none is sent until the batch has ended.
    fn may_read(&self, bow: &Bow) -> bool {
        !self.moves_live()
            || cfg!(bow_fault = "no_drain")
            || bow.first_block_io.fetch_add(0, Full) == 0
    }

    fn read(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Reading;
        self.launch(bow, |slot, flight| {
            for (index, copy) in slot.batch.copies().iter().enumerate() {
                let bytes = copy.source_bytes(bow.sectors) as usize;
                if bytes < copy.bytes() as usize {
                    // The end of the device cuts off the last block. There is such a page.
                    let _ = slot.buffer.fill(copy.page + bytes / PAGE_SIZE, &[]);
                }
                let piece = Piece {
                    page: copy.page,
                    bytes,
                };
                flight.add();
                slot.submit(
                    bow,
                    OwnOperation::Read,
                    copy.source,
                    core::iter::once(piece),
                    Part::Read(index),
                );
            }
        });
    }

    fn flight<'a>(&self, bow: &'a Bow) -> Option<&'a Flight> {
        bow.flights.get(self.number)
    }

    /// Starts the I/O of a phase.
    fn launch(&self, bow: &Arc<Bow>, start: impl FnOnce(&Self, &Flight)) {
        if let Some(flight) = self.flight(bow) {
            flight.launch();
            start(self, flight);
            // The worker runs `advance` after this anyway.
            flight.landed();
        }
    }

    fn submit(
        &self,
        bow: &Arc<Bow>,
        operation: OwnOperation,
        sector: u64,
        pieces: impl Iterator<Item = Piece> + Clone,
        part: Part,
    ) {
        BioSet::submit(
            bow.as_arc_borrow(),
            Order {
                operation,
                sector,
                tag: Tag {
                    slot: self.number,
                    part,
                },
            },
            &self.buffer,
            pieces,
        );
    }

    /// How copy number `index` failed, if it did.
    fn copy_failure(&self, bow: &Bow, index: usize) -> Option<(Failure, Status)> {
        self.flight(bow)?.failure(index)
    }

    /// Goes on as far as it can without waiting. `is_first`: all batches that were begun before
    /// this one have ended; `is_next`: they have at least begun to write the log.
    pub(super) fn step(
        &mut self,
        bow: &Arc<Bow>,
        checkpoint: &mut Checkpoint,
        is_first: bool,
        is_next: bool,
    ) -> Step {
        if !self.flight(bow).is_some_and(Flight::has_landed) {
            return Step::Waiting;
        }
        match self.phase {
            Phase::Idle | Phase::Open => return Step::Waiting,
            Phase::Closed if !self.may_read(bow) => return Step::Waiting,
            Phase::Closed => self.read(bow),
            Phase::Reading if !is_next => return Step::Waiting,
            Phase::Reading => self.write(bow),
            Phase::Writing if !is_first => return Step::Waiting,
            Phase::Writing => {
                let laid = self.laid.unwrap_or_default();
                if !self.apart && self.has_failed_writes(bow) {
                    checkpoint.unlay(laid, &self.rests);
                    self.apart = true;
                    if let Some(flight) = self.flight(bow) {
                        flight.forget_writes();
                    }
                    self.write(bow);
                } else if laid > self.good_copies(bow) {
                    // Entries of copies that failed are in the log: once more without.
                    checkpoint.unlay(laid, &self.rests);
                    self.lay_again(bow);
                } else if let Some((index, status)) =
                    self.flight(bow).and_then(Flight::rest_failure)
                {
                    checkpoint.unlay(laid, &self.rests);
                    self.replace_rest(bow, checkpoint, index, status);
                    self.lay_again(bow);
                } else if laid == 0 {
                    return self.end(bow, checkpoint, false);
                } else {
                    self.write_log(bow);
                }
            }
            Phase::Logging => match self.flight(bow).and_then(Flight::log_failure) {
                Some(status) => return Step::LogFailed(status),
                None => {
                    let time = self.log_begun.elapsed().as_micros_ceil();
                    checkpoint.log_took(u64::try_from(time).unwrap_or(0));
                    return self.end(bow, checkpoint, true);
                }
            },
        }
        Step::Moved
    }

    /// Makes the entries once more.
    fn lay_again(&mut self, bow: &Bow) {
        self.laid = None;
        if let Some(flight) = self.flight(bow) {
            flight.forget_rests();
            flight.launch();
        }
    }

    /// Finds another place for full log block number `index`, which could not be written. When there is
    /// none, or too many have failed, the copies fail: no log block on the device has them.
    fn replace_rest(
        &mut self,
        bow: &Bow,
        checkpoint: &mut Checkpoint,
        index: usize,
        status: Status,
    ) {
        self.retries += 1;
        let rest = self.rests.get(index).copied().unwrap_or_default();
        let is_replaced = self.retries <= RETRIES_MAX && checkpoint.replace_rest(rest).is_ok();
        if let Some(flight) = self.flight(bow).filter(|_| !is_replaced) {
            flight.fail_copies(status);
        }
    }

    fn good_copies(&self, bow: &Bow) -> usize {
        (0..self.batch.copies().len())
            .filter(|&index| self.copy_failure(bow, index).is_none())
            .count()
    }

    fn has_failed_writes(&self, bow: &Bow) -> bool {
        (0..self.batch.copies().len()).any(|index| {
            matches!(
                self.copy_failure(bow, index),
                Some((Failure::WriteFailed, _))
            )
        })
    }

    /// Writes what was read to its new places; places that follow each other are written by one bio.
    /// The phase cannot end before [`lay`](Self::lay).
    fn write(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Writing;
        self.laid = None;
        let Some(flight) = self.flight(bow) else {
            return;
        };
        flight.launch();
        let copies = self.batch.copies();
        let mut first = 0;
        while let Some(copy) = copies.get(first) {
            if self.copy_failure(bow, first).is_some() {
                first += 1;
                continue;
            }
            let joins = |index: usize| match (copies.get(index), copies.get(index + 1)) {
                (Some(copy), Some(next)) => {
                    copy.dest_end() == next.dest && self.copy_failure(bow, index + 1).is_none()
                }
                _ => false,
            };
            let mut end = first;
            while !self.apart && joins(end) {
                end += 1;
            }
            let joined = copies.get(first..=end).unwrap_or_default();
            let part = Part::Write {
                first,
                count: joined.len(),
            };
            let pieces = joined.iter().map(|copy| Piece {
                page: copy.page,
                bytes: copy.bytes() as usize,
            });
            flight.add();
            self.submit(bow, WRITE_BACKUP, copy.dest, pieces, part);
            first = end + 1;
        }
    }

    /// Whether it is writing and has not entered the log in memory yet.
    pub(super) fn is_to_be_laid(&self) -> bool {
        self.phase == Phase::Writing && self.laid.is_none()
    }

    /// Checksums what was read, enters it into the log in memory, and writes the log blocks that are
    /// full thereby. To be called while the backups are on their way.
    pub(super) fn lay(&mut self, bow: &Arc<Bow>, checkpoint: &mut Checkpoint) {
        for copy in self.batch.copies_mut() {
            let seed = entry_seed(copy.source, bow.block.bytes());
            copy.checksum = self.buffer.crc32(seed, copy.page, copy.bytes() as usize);
        }
        let Some(flight) = bow.flights.get(self.number) else {
            return;
        };
        if self.enter(flight, checkpoint).is_err() {
            // Cannot be; but what is not in the log has no backup.
            flight.fail_copies(Status::IO_ERROR);
        }
        for (index, &rest) in self.rests.iter().enumerate() {
            let piece = Piece {
                page: REST_PAGE + index,
                bytes: bow.block.bytes() as usize,
            };
            flight.add();
            let piece = core::iter::once(piece);
            self.submit(bow, WRITE_BACKUP, rest, piece, Part::Rest(index));
        }
        // The worker looks again after this anyway.
        flight.landed();
    }

    /// Enters the copies that have not failed so far into the log in memory, and fills the pages that
    /// the log is written from.
    fn enter(&mut self, flight: &Flight, checkpoint: &mut Checkpoint) -> Result {
        let Self {
            batch,
            buffer,
            rests,
            ..
        } = self;
        rests.clear();
        self.laid = Some(0);
        let laid = checkpoint.lay(
            batch,
            |index| flight.failure(index).is_some(),
            crc32,
            |rest, sector| {
                // There are pages and places for as many as a batch can fill.
                let _ = buffer.write(REST_PAGE + rests.len(), sector);
                let _ = rests.push_within_capacity(rest);
            },
        )?;
        self.laid = Some(laid);
        checkpoint.log().encode(&mut self.log, crc32);
        self.buffer.write(LOG_PAGE, &self.log)
    }

    /// Writes the log block: its first sector, which is all that has a meaning.
    fn write_log(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Logging;
        self.log_begun = Instant::now();
        if cfg!(bow_fault = "data_before_log") {
            while let Some(bio) = self.bios.pop() {
                bow.submit(bio, bow.epoch.enter());
            }
        }
        let piece = Piece {
            page: LOG_PAGE,
            bytes: bow.device.logical_block_size() as usize,
        };
        self.launch(bow, |slot, flight| {
            flight.add();
            let piece = core::iter::once(piece);
            slot.submit(bow, WRITE_LOG, 0, piece, Part::Log);
        });
    }

    /// The log is durable, or there is nothing to log: what it says holds from now on.
    fn end(&mut self, bow: &Bow, checkpoint: &mut Checkpoint, logged: bool) -> Step {
        // Without a copy that is good there is nothing to log.
        let none_written = !logged && self.batch.copies().len() > 1;
        let failure = |index| match self.copy_failure(bow, index)? {
            _ if none_written => Some(Failure::NoneWritten),
            (outcome, _) => Some(outcome),
        };
        checkpoint.settle(&self.batch, failure);
        let copies = self.batch.copies().iter().enumerate();
        let good = copies.filter(|&(index, _)| failure(index).is_none());
        bow.mark_settled(good.map(|(_, copy)| (copy.source..copy.source_end(), copy.ahead())));
        for &rest in &self.rests {
            checkpoint.settle_rest(rest);
        }
        Step::Ended { logged }
    }

    /// The first sector of the log block that this batch has written.
    pub(super) fn log(&self) -> &Sector {
        &self.log
    }

    /// The status of a copy that failed of which `span` needs a part. One of more than was needed
    /// does not count: what is needed is tried by itself.
    pub(super) fn failure(&self, bow: &Bow, span: &Range<u64>) -> Option<Status> {
        if self.laid == Some(self.batch.copies().len()) {
            return None;
        }
        let overlaps = |copy: &Copy| copy.source < span.end && span.start < copy.source_end();
        self.batch
            .copies()
            .iter()
            .enumerate()
            .filter(|(_, copy)| overlaps(copy) && !copy.is_extended())
            .find_map(|(index, _)| self.copy_failure(bow, index))
            .map(|(_, status)| status)
    }

    /// After the log failed: a batch that has no I/O in flight is not going on, and its bios fail.
    pub(super) fn step_after_failure(&self, bow: &Bow) -> Step {
        if self.flight(bow).is_some_and(Flight::has_landed) {
            Step::LogFailed(Status::IO_ERROR)
        } else {
            Step::Waiting
        }
    }

    /// Is ready for the next batch, without giving anything back: what the device's log says about
    /// this one is not known.
    pub(super) fn drop_batch(&mut self) {
        self.batch.forget();
        self.rests.clear();
        self.phase = Phase::Idle;
    }

    /// Is ready for the next batch.
    pub(super) fn clear(&mut self, checkpoint: &mut Checkpoint) {
        checkpoint.finish(&mut self.batch);
        self.rests.clear();
        self.phase = Phase::Idle;
    }
}
