// SPDX-License-Identifier: GPL-2.0

//! The I/O of a batch of first writes: reads the old contents, writes the backups, writes the log, and only
//! then lets the first writes be submitted.
//!
//! A [`Slot`] goes through the [`Phase`]s in order. A phase starts its I/O and ends when all of that has
//! completed, which [`Flight`] counts. The batches of several slots read at the same time; they append to the
//! log and write the log one after the other, in the order in which they were begun.
//!
//! # Order on the device
//!
//! 1. The backups are written, and the log blocks that the batch has filled.
//! 2. When all of these writes have completed, the log block is written.
//! 3. When the log write has completed, the first writes are submitted. Whichever of them a power cut leaves,
//!    the log that says how to undo them is durable, and so are the backups that the log names.
//!
//! 1 and 2 are written with FUA, so each write is durable when it completes. A flush before 2 would do as
//! well, but would have the device write all that its cache holds. If the device has no FUA, the block layer
//! issues flushes instead, one for all the writes that are in flight together.

use super::{
    flight::Flight,
    BioList,
    Bow,
    GRANTS,
    SLOTS, //
};
use crate::{
    abstractions::block::{
        bio::Status,
        bio_set::BIO_PAGES_MAX,
        buffer::{
            self,
            Buffer, //
        },
    },
    decisions::{
        batch::{
            Batch,
            CopyError,
            CopyOut,
            BATCH_PAGES,
            FULL_LOG_BLOCKS_MAX,
            PAGE_BYTES, //
        },
        chain::Appended,
        checkpoint::Checkpoint,
        log::{
            Sector,
            SECTOR_SIZE, //
        },
    },
};
use core::ops::Range;
use kernel::{
    alloc::Flags,
    prelude::*,
    sync::{
        atomic::ordering::Full,
        Arc, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

// The decisions count in pages of the copy buffer.
const _: () = assert!(PAGE_BYTES == buffer::PAGE_BYTES);
const _: () = assert!(BATCH_PAGES <= BIO_PAGES_MAX);

/// Page of a slot's buffer that the log block is written from. In this page and those of full log blocks only the
/// first sector is ever filled in. The other sectors stay zero, as the format wants.
pub(super) const LOG_PAGE: usize = 0;

/// First page of a slot's buffer that full log blocks are written from.
pub(super) const FULL_LOG_PAGE: usize = LOG_PAGE + 1;

/// First page of the copy buffer in a slot's buffer. A slot for grants alone has none.
pub(super) const COPY_PAGE: usize = FULL_LOG_PAGE + FULL_LOG_BLOCKS_MAX;

/// Number of places for full log blocks that may fail before the batch does.
const RETRIES_MAX: usize = 4;

/// Progress of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// There is no batch.
    Idle,
    /// Writes may join the batch.
    Open,
    /// No more writes may join, and the batch waits for I/O of the relocated first block to complete.
    Closed,
    /// The old contents are being read, or the batch waits for the previous one to write the log.
    Reading,
    /// The backups and the log blocks they filled are being written, or the previous batch has not
    /// completed.
    Writing,
    /// The log block is being written.
    Logging,
}

/// A batch, with its memory and the bios that wait for it.
pub(super) struct Slot {
    /// Index of the slot, and of its [`Flight`].
    pub(super) number: usize,
    pub(super) phase: Phase,
    pub(super) batch: Batch,
    /// Bios that wait for the batch.
    pub(super) bios: BioList,
    /// Memory for the copies, the log block and the full log blocks.
    pub(super) buffer: Buffer,
    /// Entries of the batch in the log block in memory; [`None`] before they are appended.
    pub(super) appended: Option<Appended>,
    /// Set when each copy is written by its own bio, since a write failed that may have been of several.
    pub(super) apart: bool,
    /// Number of places for full log blocks that could not be written.
    pub(super) retries: usize,
    /// Status of writes whose grant has failed.
    pub(super) grants_status: Status,
    /// First sector of the log block that the batch writes.
    pub(super) log: Sector,
    /// Time at which the write of the log block was submitted.
    pub(super) log_begun: Instant<Monotonic>,
}

/// Outcome of a step of a slot.
pub(super) enum Step {
    /// The batch waits for I/O, or for its turn.
    Waiting,
    /// The batch has advanced.
    Moved,
    /// The batch has ended. Its bios are to be looked at again, except those for which [`Slot::error`]
    /// returns a status.
    Ended {
        /// Set when the log was written.
        logged: bool,
    },
    /// The log could not be written.
    LogFailed(Status),
}

impl Slot {
    /// Allocates a slot.
    fn new(number: usize, flags: Flags) -> Result<Self> {
        let (batch, pages) = if number == GRANTS {
            (Batch::of_grants(flags)?, COPY_PAGE)
        } else {
            (Batch::new(flags)?, COPY_PAGE + BATCH_PAGES)
        };
        Ok(Self {
            number,
            phase: Phase::Idle,
            batch,
            bios: BioList::new(),
            buffer: Buffer::new(pages)?,
            appended: None,
            apart: false,
            retries: 0,
            grants_status: Status::OK,
            log: [0; SECTOR_SIZE],
            log_begun: Instant::now(),
        })
    }

    /// Allocates all slots of a device. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn all(flags: Flags) -> Result<KVec<Self>> {
        let mut slots = KVec::with_capacity(SLOTS, flags)?;
        for number in 0..SLOTS {
            slots.push(Self::new(number, flags)?, flags)?;
        }
        Ok(slots)
    }

    /// Returns whether the slot has no batch.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Returns whether writes may join the batch.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Returns whether the backups are being written, and the entries of the batch are, or are about to be, in
    /// the log in memory but not on the device.
    pub(super) fn is_writing(&self) -> bool {
        self.phase == Phase::Writing
    }

    /// Returns whether the batch waits to append its entries.
    pub(super) fn is_reading(&self) -> bool {
        self.phase == Phase::Reading
    }

    /// Returns whether the batch is writing the log block.
    pub(super) fn is_logging(&self) -> bool {
        self.phase == Phase::Logging
    }

    /// Returns whether the relocated first block is being moved, so that nothing may be sent to it.
    pub(super) fn moves_first_block(&self) -> bool {
        self.batch.moves_first_block()
    }

    /// Begins a batch that about `writes` writes will join.
    pub(super) fn open(&mut self, bow: &Bow, checkpoint: &mut Checkpoint, writes: usize) {
        self.phase = Phase::Open;
        self.apart = false;
        self.retries = 0;
        if self.number != GRANTS {
            checkpoint.open(&mut self.batch, writes);
        }
        if let Some(flight) = self.flight(bow) {
            flight.reset();
        }
    }

    /// Lets no more writes join, and starts to read the old contents if there is anything to copy.
    pub(super) fn close(&mut self, bow: &Arc<Bow>, checkpoint: &mut Checkpoint) {
        checkpoint.close();
        if self.batch.entries() == 0 && self.bios.is_empty() {
            self.phase = Phase::Idle;
        } else if self.may_read(bow) {
            self.read(bow);
        } else {
            self.phase = Phase::Closed;
        }
    }

    /// Returns whether the reads may start. I/O of the relocated first block has to complete before that
    /// block is copied, and none is submitted until the batch has ended.
    fn may_read(&self, bow: &Bow) -> bool {
        !self.moves_first_block() || bow.first_block_io.fetch_add(0, Full) == 0
    }

    /// Returns the completions of this slot.
    pub(super) fn flight<'a>(&self, bow: &'a Bow) -> Option<&'a Flight> {
        bow.flights.get(self.number)
    }

    /// Returns how the I/O of copy number `index` failed, if it did: [`Flight::error`] of the batch's flight.
    pub(super) fn copy_error(&self, bow: &Bow, index: usize) -> Option<(CopyError, Status)> {
        self.flight(bow)?.error(index)
    }

    /// Advances the batch as far as possible without waiting.
    ///
    /// `is_first`: no other batch is writing the log, and all batches that have to come before have ended.
    /// `is_next`: all others that have appended to the log have at least started to write the log, and so have
    /// those that have to come before.
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
            Phase::Writing => return self.step_writing(bow, checkpoint),
            Phase::Logging => match self.flight(bow).and_then(Flight::log_error) {
                Some(status) => return Step::LogFailed(status),
                None => {
                    let time = self.log_begun.elapsed().as_micros_ceil();
                    checkpoint.log_write_took(u64::try_from(time).unwrap_or(0));
                    return self.complete(bow, checkpoint, true);
                }
            },
        }
        Step::Moved
    }

    /// Continues when the writes of backups and full log blocks have completed, and it is the batch's turn.
    fn step_writing(&mut self, bow: &Arc<Bow>, checkpoint: &mut Checkpoint) -> Step {
        let entries = self.appended.as_ref().map_or(0, Appended::entries);
        if !self.apart && self.has_failed_writes(bow) {
            self.roll_back(checkpoint);
            self.apart = true;
            if let Some(flight) = self.flight(bow) {
                flight.forget_writes();
            }
            self.write(bow);
        } else if entries > self.batch.good_grants() + self.good_copies(bow) {
            // Entries of copies that failed are in the log: append again without those.
            self.roll_back(checkpoint);
            self.append_again(bow);
        } else if let Some((sector, status)) = self.failed_full_log_block(bow) {
            self.roll_back(checkpoint);
            self.replace_full_log_block(bow, checkpoint, sector, status);
            self.append_again(bow);
        } else if entries == 0 {
            return self.complete(bow, checkpoint, false);
        } else {
            self.write_log(bow);
        }
        Step::Moved
    }

    /// Takes the entries of the batch out of the log block in memory.
    fn roll_back(&mut self, checkpoint: &mut Checkpoint) {
        if let Some(appended) = self.appended.take() {
            checkpoint.roll_back(appended);
        }
    }

    /// Returns the sector and the status of a full log block that could not be written, if there is one.
    fn failed_full_log_block(&self, bow: &Bow) -> Option<(u64, Status)> {
        let (index, status) = self.flight(bow)?.full_log_block_error()?;
        let sector = *self.appended.as_ref()?.full_blocks().get(index)?;
        Some((sector, status))
    }

    /// Lets the worker call [`append`](Self::append) again.
    fn append_again(&mut self, bow: &Bow) {
        if let Some(flight) = self.flight(bow) {
            flight.forget_full_log_blocks();
            flight.launch();
        }
    }

    /// Finds another place for the full log block at `sector`, which could not be written. If there is none,
    /// or too many places have failed, the copies and the grants fail. That is safe: no log block on the device names them.
    fn replace_full_log_block(
        &mut self,
        bow: &Bow,
        checkpoint: &mut Checkpoint,
        sector: u64,
        status: Status,
    ) {
        self.retries += 1;
        let is_replaced =
            self.retries <= RETRIES_MAX && checkpoint.replace_full_log_block(sector).is_ok();
        if let Some(flight) = self.flight(bow).filter(|_| !is_replaced) {
            flight.fail_copies(status);
            self.batch.fail_grants();
            self.grants_status = status;
        }
    }

    /// Returns the number of copies that have not failed.
    fn good_copies(&self, bow: &Bow) -> usize {
        (0..self.batch.copies().len())
            .filter(|&index| self.copy_error(bow, index).is_none())
            .count()
    }

    /// Returns whether a copy could not be written.
    fn has_failed_writes(&self, bow: &Bow) -> bool {
        (0..self.batch.copies().len())
            .any(|index| matches!(self.copy_error(bow, index), Some((CopyError::Write, _))))
    }

    /// Returns whether the backups are being written and their entries are not appended yet.
    pub(super) fn is_to_be_appended(&self) -> bool {
        self.phase == Phase::Writing && self.appended.is_none()
    }

    /// Ends the batch: the log is durable, or there is nothing to log.
    fn complete(&mut self, bow: &Bow, checkpoint: &mut Checkpoint, logged: bool) -> Step {
        let none_written = self.batch.copies().len() > 1 && self.good_copies(bow) == 0;
        let error = |index| match self.copy_error(bow, index)? {
            _ if none_written => Some(CopyError::NoneWritten),
            (error, _) => Some(error),
        };
        let nothing = Appended::default();
        let appended = self.appended.as_ref().unwrap_or(&nothing);
        checkpoint.complete(&self.batch, appended, error, |span| bow.mark_granted(&span));
        let copies = self.batch.copies().iter().enumerate();
        let good = copies.filter(|&(index, _)| error(index).is_none());
        bow.mark_writable(
            good.map(|(_, copy)| (copy.source..copy.source_end(), copy.prefetched())),
        );
        Step::Ended { logged }
    }

    /// Returns the first sector of the log block that the batch has written.
    pub(super) fn log(&self) -> &Sector {
        &self.log
    }

    /// Returns the status that a write to `span` ends with, if a copy that it needs has failed. A copy of
    /// more than was needed does not count: the needed part is then tried by itself.
    pub(super) fn error(&self, bow: &Bow, span: &Range<u64>) -> Option<Status> {
        let entries = self.appended.as_ref().map(Appended::entries);
        if entries == Some(self.batch.entries()) {
            return None;
        }
        if self.batch.has_failed_grant(span) {
            return Some(self.grants_status);
        }
        let overlaps = |copy: &CopyOut| copy.source < span.end && span.start < copy.source_end();
        self.batch
            .copies()
            .iter()
            .enumerate()
            .filter(|(_, copy)| overlaps(copy) && !copy.is_extended())
            .find_map(|(index, _)| self.copy_error(bow, index))
            .map(|(_, status)| status)
    }

    /// Gives up a batch after a log write has failed, once the I/O of the batch has completed: its bios fail.
    pub(super) fn step_after_failure(&self, bow: &Bow) -> Step {
        if self.flight(bow).is_some_and(Flight::has_landed) {
            Step::LogFailed(Status::IO_ERROR)
        } else {
            Step::Waiting
        }
    }

    /// Makes the slot idle, without giving anything back: it is not known what the device's log says about
    /// the batch.
    pub(super) fn drop_batch(&mut self) {
        self.batch.forget();
        self.phase = Phase::Idle;
    }

    /// Makes the slot idle after a batch has ended.
    pub(super) fn clear(&mut self, checkpoint: &mut Checkpoint) {
        checkpoint.finish(&mut self.batch);
        self.phase = Phase::Idle;
    }
}
