// SPDX-License-Identifier: GPL-2.0

//! Completions of the I/O of batches: what has ended, and how. Any context, without a lock.

use super::Bow;
use crate::{
    abstractions::block::{
        bio::Status,
        bio_set::{
            BioSet,
            IoCompletion, //
        },
        device::Device,
    },
    decisions::batch::{
        CopyError,
        COPIES_MAX,
        FULL_LOG_BLOCKS_MAX, //
    },
};
use kernel::sync::{
    atomic::{
        ordering::{
            Full,
            Relaxed, //
        },
        Atomic, //
    },
    Arc,
    ArcBorrow, //
};

/// Identity of a bio of internal I/O.
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    /// Number of the slot that the bio works for.
    pub(super) slot: usize,
    /// Part of the batch that the bio carries out.
    pub(super) part: Part,
}

/// Part of a batch's I/O.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The reading of one copy.
    Read(usize),
    /// The writing of some copies.
    Write { first: usize, count: usize },
    /// A full log block.
    FullLogBlock(usize),
    /// The log block.
    Log,
}

/// What the ends of I/O say about a slot. Changed in any context, without a lock.
pub(super) struct Flight {
    /// I/O that has not ended, and one while more is being started.
    pending: Atomic<u32>,
    /// For each copy, the status of the I/O that failed, or 0.
    reads: [Atomic<u32>; COPIES_MAX],
    writes: [Atomic<u32>; COPIES_MAX],
    /// For each full log block, the status of the write that failed, or 0.
    full_log_blocks: [Atomic<u32>; FULL_LOG_BLOCKS_MAX],
    /// The status of the log write that failed, or 0.
    log: Atomic<u32>,
}

/// Returns the status of the I/O that failed, if it did.
fn failed(status: &Atomic<u32>) -> Option<Status> {
    let raw = status.load(Relaxed);
    (raw != 0).then(|| Status::from_raw(raw))
}

impl Flight {
    pub(super) fn new() -> Self {
        Self {
            pending: Atomic::new(0),
            reads: core::array::from_fn(|_| Atomic::new(0)),
            writes: core::array::from_fn(|_| Atomic::new(0)),
            full_log_blocks: core::array::from_fn(|_| Atomic::new(0)),
            log: Atomic::new(0),
        }
    }

    pub(super) fn reset(&self) {
        for (read, write) in self.reads.iter().zip(&self.writes) {
            read.store(0, Relaxed);
            write.store(0, Relaxed);
        }
        self.forget_full_log_blocks();
        self.log.store(0, Relaxed);
    }

    /// Starts a phase; it does not end until all of it was started.
    pub(super) fn launch(&self) {
        self.pending.store(1, Relaxed);
    }

    pub(super) fn add(&self) {
        self.pending.add(1, Relaxed);
    }

    /// One I/O ended, or all were started. Returns whether that was the last.
    pub(super) fn landed(&self) -> bool {
        self.pending.fetch_sub(1, Full) == 1
    }

    pub(super) fn has_landed(&self) -> bool {
        self.pending.fetch_add(0, Full) == 0
    }

    pub(super) fn record(&self, part: Part, status: Status) {
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
            Part::FullLogBlock(index) => set(self.full_log_blocks.get(index)),
            Part::Log => set(Some(&self.log)),
        }
    }

    /// How copy number `index` failed, if it did.
    pub(super) fn error(&self, index: usize) -> Option<(CopyError, Status)> {
        let failed = |list: &[Atomic<u32>]| list.get(index).and_then(failed);
        if let Some(status) = failed(&self.reads) {
            return Some((CopyError::Read, status));
        }
        failed(&self.writes).map(|status| (CopyError::Write, status))
    }

    /// Has all copies fail: no log block on the device names them.
    pub(super) fn fail_copies(&self, status: Status) {
        let count = self.writes.len();
        self.record(Part::Write { first: 0, count }, status);
    }

    /// The writes of copies are made once more.
    pub(super) fn forget_writes(&self) {
        for write in &self.writes {
            write.store(0, Relaxed);
        }
    }

    /// Full log blocks are written once more.
    pub(super) fn forget_full_log_blocks(&self) {
        for block in &self.full_log_blocks {
            block.store(0, Relaxed);
        }
    }

    /// The first full log block that could not be written.
    pub(super) fn full_log_block_error(&self) -> Option<(usize, Status)> {
        let blocks = self.full_log_blocks.iter().enumerate();
        blocks
            .filter_map(|(index, status)| Some((index, failed(status)?)))
            .next()
    }

    pub(super) fn log_error(&self) -> Option<Status> {
        failed(&self.log)
    }
}

impl IoCompletion for Bow {
    type Tag = Tag;

    fn bios(&self) -> &BioSet<Self> {
        &self.bios
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn completed(this: ArcBorrow<'_, Self>, tag: Tag, status: Status) {
        if let Some(flight) = this.flights.get(tag.slot) {
            flight.record(tag.part, status);
            if flight.landed() {
                Arc::from(this).wake();
            }
        }
    }
}
