// SPDX-License-Identifier: GPL-2.0

//! Completions of the I/O of batches. All functions may be called in any context and take no lock.
//!
//! The count of bios in flight orders everything else: what a completion stores before it
//! [lands](Flight::landed) is seen by whoever has found that [all have](Flight::has_landed).
//! `tests/crates/memory-order` tries that in every order.

use crate::{
    abstractions::block::bio::Status,
    decisions::batch::{
        CopyError,
        COPIES_MAX,
        FULL_LOG_BLOCKS_MAX, //
    },
};
use kernel::sync::atomic::{
    ordering::{
        Full,
        Relaxed, //
    },
    Atomic, //
};

/// Identity of a bio of internal I/O.
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    /// Index of the slot that the bio works for.
    pub(super) slot: usize,
    /// Part of the batch that the bio carries out.
    pub(super) part: Part,
}

/// Part of the I/O of a batch.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// The read of the copy with this number.
    Read(usize),
    /// The write of `count` copies from number `first` on.
    Write { first: usize, count: usize },
    /// The write of the full log block with this number in the batch.
    FullLogBlock(usize),
    /// The write of the log block.
    Log,
}

/// Completions of the I/O of one slot.
pub(super) struct Flight {
    /// Number of bios in flight, plus one while more are being submitted.
    pending: Atomic<u32>,
    /// Status of the read of each copy; 0 unless the read failed.
    reads: [Atomic<u32>; COPIES_MAX],
    /// Status of the write of each copy; 0 unless the write failed.
    writes: [Atomic<u32>; COPIES_MAX],
    /// Status of the write of each full log block; 0 unless the write failed.
    full_log_blocks: [Atomic<u32>; FULL_LOG_BLOCKS_MAX],
    /// Status of the log write; 0 unless the write failed.
    log: Atomic<u32>,
}

/// Returns the error that `status` holds, if there is one.
fn failed(status: &Atomic<u32>) -> Option<Status> {
    let raw = status.load(Relaxed);
    (raw != 0).then(|| Status::from_raw(raw))
}

impl Flight {
    /// Creates the completions of an idle slot.
    pub(super) fn new() -> Self {
        Self {
            pending: Atomic::new(0),
            reads: core::array::from_fn(|_| Atomic::new(0)),
            writes: core::array::from_fn(|_| Atomic::new(0)),
            full_log_blocks: core::array::from_fn(|_| Atomic::new(0)),
            log: Atomic::new(0),
        }
    }

    /// Forgets all errors, before the next batch. No I/O of the slot is in flight.
    pub(super) fn reset(&self) {
        for (read, write) in self.reads.iter().zip(&self.writes) {
            read.store(0, Relaxed);
            write.store(0, Relaxed);
        }
        self.forget_full_log_blocks();
        self.log.store(0, Relaxed);
    }

    /// Begins a phase, which does not end before [`landed`](Self::landed) is called once more than
    /// [`add`](Self::add).
    pub(super) fn launch(&self) {
        self.pending.store(1, Relaxed);
    }

    /// Counts a bio that is about to be submitted.
    pub(super) fn add(&self) {
        self.pending.add(1, Relaxed);
    }

    /// Counts a completion, or the end of submitting. Returns whether that was the last one of the phase.
    pub(super) fn landed(&self) -> bool {
        self.pending.fetch_sub(1, Full) == 1
    }

    /// Returns whether all I/O of the phase has completed. What [`record`](Self::record) stored before is
    /// then visible to the caller.
    pub(super) fn has_landed(&self) -> bool {
        self.pending.fetch_add(0, Full) == 0
    }

    /// Records the status with which `part` completed.
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

    /// Returns how the I/O of copy number `index` failed, if it did: its read, or else its write.
    pub(super) fn error(&self, index: usize) -> Option<(CopyError, Status)> {
        let failed = |list: &[Atomic<u32>]| list.get(index).and_then(failed);
        if let Some(status) = failed(&self.reads) {
            return Some((CopyError::Read, status));
        }
        failed(&self.writes).map(|status| (CopyError::Write, status))
    }

    /// Records `status` for the writes of all copies. Safe since no log block on the device names them.
    pub(super) fn fail_copies(&self, status: Status) {
        let count = self.writes.len();
        self.record(Part::Write { first: 0, count }, status);
    }

    /// Forgets the errors of the writes of copies, which are repeated.
    pub(super) fn forget_writes(&self) {
        for write in &self.writes {
            write.store(0, Relaxed);
        }
    }

    /// Forgets the errors of full log blocks, which are written again.
    pub(super) fn forget_full_log_blocks(&self) {
        for block in &self.full_log_blocks {
            block.store(0, Relaxed);
        }
    }

    /// Returns the number and the status of the first full log block that could not be written.
    pub(super) fn full_log_block_error(&self) -> Option<(usize, Status)> {
        let mut blocks = self.full_log_blocks.iter().enumerate();
        blocks.find_map(|(index, status)| Some((index, failed(status)?)))
    }

    /// Returns the status of the log write, if it failed.
    pub(super) fn log_error(&self) -> Option<Status> {
        failed(&self.log)
    }
}
