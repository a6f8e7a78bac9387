// SPDX-License-Identifier: GPL-2.0

//! What happens to a bio at once, in its submitter's context.
//!
//! Reads outside the first block, flushes, and in state 1 writes to settled blocks take no lock and
//! go straight down. In state 0 writes and discards update the record of free space under a
//! spinlock. Everything else goes to the [worker](super::worker).

use super::{
    deferred::Wake,
    Bow,
    Mode,
    Tracker, //
};
use crate::{
    abstractions::{
        bio::{
            Bio,
            Operation,
            Status, //
        },
        epoch::Ticket,
    },
    decisions::state::State, //
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::{
            Full,
            Relaxed, //
        },
        Arc,
        ArcBorrow, //
    },
};

/// Ranges of free space that are forgotten while the lock of their record is held once.
const PIECE: usize = 64;

/// The account that [`Bow`] keeps with each bio.
#[derive(Default)]
pub(crate) enum BioData {
    /// Nothing waits for the bio.
    #[default]
    None,
    /// The bio holds a ticket of the epoch.
    Ticket(Ticket),
    /// The bio holds a ticket of the epoch, and is counted as I/O of the live first block.
    FirstBlock(Ticket),
}

impl Bow {
    /// Decides about a bio of the mapped device: returns it to have it go down, or keeps it. May sleep
    /// while too many bios are deferred, but not with a ticket.
    #[inline]
    pub(super) fn map_bio(this: ArcBorrow<'_, Self>, mut bio: Bio<Self>) -> Option<Bio<Self>> {
        let operation = bio.operation();
        let first_block = bio.sector() < this.block.sectors();
        loop {
            let is_committed = this.mode() == Mode::State(State::Committed);
            if is_committed
                || operation == Operation::Flush
                || (operation == Operation::Read && !first_block)
            {
                return Some(bio);
            }

            bio.end_unpolled();
            let ticket = this.epoch.enter();
            // Only now, with the ticket, can the mode not change under the bio.
            let mode = this.mode();
            match mode {
                Mode::State(State::Tracking) => return this.track(bio, ticket),
                Mode::State(State::Checkpoint)
                    if operation == Operation::Write
                        && !first_block
                        && this.is_settled(&bio.span(), &ticket) =>
                {
                    *bio.data() = BioData::Ticket(ticket);
                    return Some(bio);
                }
                Mode::State(State::Committed) => {
                    this.epoch.leave(ticket);
                    return Some(bio);
                }
                Mode::State(State::Checkpoint) | Mode::Changing => {}
            }
            if first_block {
                // From here on a bio is in the first block or outside, never both.
                bio.accept_only(this.block.sectors() - bio.sector());
            }
            let wake = if first_block || operation == Operation::Discard {
                Wake::Now
            } else {
                Wake::WhenAwaited
            };
            bio = Self::defer(this, bio, ticket, wake)?;
            this.wait_for_room();
        }
    }

    /// Whether a write to `span` needs nothing any more; counts its blocks that were backed up ahead.
    #[inline]
    pub(super) fn is_settled(&self, span: &Range<u64>, ticket: &Ticket) -> bool {
        let Some(settled) = self.settled.get(ticket) else {
            return false;
        };
        let (admitted, hits) = settled.admit(span);
        if hits > 0 {
            self.hits.add(hits, Relaxed);
        }
        admitted
    }

    /// State 0: keeps the record of free space. Returns the bio if it is to go down, with its
    /// ticket: a checkpoint waits for it.
    pub(super) fn track(&self, mut bio: Bio<Self>, ticket: Ticket) -> Option<Bio<Self>> {
        let span = bio.span();
        match bio.operation() {
            Operation::Write => {
                let touched = self
                    .tracker
                    .lock()
                    .as_ref()
                    .is_some_and(|tracker| tracker.space.is_touched_by(&span));
                if touched {
                    self.record(&span, |tracker| {
                        tracker.space.write(span.clone(), &mut tracker.nodes);
                    });
                }
            }
            Operation::Discard => {
                self.record(&span, |tracker| {
                    // Without nodes the discard is forgotten, which is always allowed.
                    let _ = tracker.space.discard(span.clone(), &mut tracker.nodes);
                });
                self.epoch.leave(ticket);
                bio.end(Status::OK);
                return None;
            }
            Operation::Read | Operation::Flush => {}
        }
        *bio.data() = BioData::Ticket(ticket);
        Some(bio)
    }

    /// Changes the record of free space in `span`, for which it gets nodes before it takes the lock.
    ///
    /// It does not wait for memory: the bio may be what frees some. Free space that cannot be
    /// recorded is lost.
    ///
    /// The lock is not held for long: what `span` holds is forgotten in pieces, and the change itself
    /// made together with the last of them. Between two pieces less is free than could be, which is
    /// safe; others may change the same sectors, but with those bios this one, which has not gone down or
    /// ended yet, has no order. The ticket covers it all, so a checkpoint finds no change half made.
    fn record(&self, span: &Range<u64>, change: impl FnOnce(&mut Tracker)) {
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        // If this fails, the change does with what is in stock.
        let spare = super::Nodes::new(super::RangeTree::NODES_PER_SET, flags)
            .and_then(|mut nodes| nodes.fill(flags).map(|()| nodes));
        while let Some(tracker) = &mut *self.tracker.lock() {
            if !tracker.space.forget(span, PIECE, &mut tracker.nodes) {
                continue;
            }
            if let Ok(mut spare) = spare {
                tracker.nodes.top_up(&mut spare);
            }
            return change(tracker);
        }
    }

    /// Ends the account of a bio that has ended. Any context.
    #[inline]
    pub(super) fn bio_ended(this: ArcBorrow<'_, Self>, data: BioData) {
        match data {
            BioData::None => {}
            BioData::Ticket(ticket) => this.epoch.leave(ticket),
            BioData::FirstBlock(ticket) => {
                if this.first_block_io.fetch_sub(1, Full) == 1 {
                    // A batch may wait for it, to move the live first block.
                    Arc::from(this).wake();
                }
                this.epoch.leave(ticket);
            }
        }
    }

    /// Submits a bio that may go down, with a ticket, from the worker.
    pub(super) fn submit(&self, mut bio: Bio<Self>, ticket: Ticket) {
        *bio.data() = BioData::Ticket(ticket);
        bio.submit();
    }

    /// Submits a bio of the first block to the live first block, which begins at sector `live`, from the
    /// worker.
    pub(super) fn submit_to_first_block(&self, mut bio: Bio<Self>, live: u64) {
        bio.set_sector(live.wrapping_add(bio.sector()));
        self.first_block_io.fetch_add(1, Full);
        *bio.data() = BioData::FirstBlock(self.epoch.enter());
        bio.submit();
    }
}
