// SPDX-License-Identifier: GPL-2.0

//! What happens to a bio at once, in its submitter's context.
//!
//! Reads outside the first block, flushes, and in state 1 writes to settled blocks take no lock and
//! go straight down. In state 0 writes and discards update the record of free space under a
//! spinlock. Everything else goes to the [worker](super::worker).

use super::{
    Bow,
    Mode,
    Tracker, //
};
use crate::{
    abstractions::{
        bio::{
            Bio,
            BioList,
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
        atomic::ordering::Relaxed,
        Arc,
        ArcBorrow, //
    },
};

/// What [`Bow`] keeps with each bio: its ticket, while it has one.
pub(crate) type BioData = Option<Ticket>;

impl Bow {
    /// Decides about a bio of the mapped device: returns it to have it go down, or keeps it.
    #[inline]
    pub(super) fn map_bio(this: ArcBorrow<'_, Self>, mut bio: Bio<Self>) -> Option<Bio<Self>> {
        let operation = bio.operation();
        let is_committed = this.mode() == Mode::State(State::Committed);
        let first_block = bio.sector() < this.block.sectors();
        if is_committed
            || operation == Operation::Flush
            || (operation == Operation::Read && !first_block)
        {
            return Some(bio);
        }

        bio.end_unpolled();
        let ticket = this.epoch.enter();
        // Only now, with the ticket, can the mode not change under the bio.
        match this.mode() {
            Mode::State(State::Tracking) => this.track(bio, ticket),
            Mode::State(State::Checkpoint) if first_block => {
                // From here on a bio is in the first block or outside, never both.
                bio.accept_only(this.block.sectors() - bio.sector());
                Self::hold(this, bio, ticket);
                None
            }
            Mode::State(State::Checkpoint)
                if operation == Operation::Write && this.is_settled(&bio.span(), &ticket) =>
            {
                *bio.data() = Some(ticket);
                Some(bio)
            }
            Mode::State(State::Committed) => {
                this.epoch.leave(ticket);
                Some(bio)
            }
            Mode::State(State::Checkpoint) | Mode::Changing => {
                if first_block {
                    bio.accept_only(this.block.sectors() - bio.sector());
                }
                Self::hold(this, bio, ticket);
                None
            }
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
                    self.record(|tracker| {
                        tracker.space.write(span.clone(), &mut tracker.nodes);
                    });
                }
            }
            Operation::Discard => {
                self.record(|tracker| {
                    // Without nodes the discard is forgotten, which is always allowed.
                    let _ = tracker.space.discard(span.clone(), &mut tracker.nodes);
                });
                self.epoch.leave(ticket);
                bio.end(Status::OK);
                return None;
            }
            Operation::Read | Operation::Flush => {}
        }
        *bio.data() = Some(ticket);
        Some(bio)
    }

    /// Changes the record of free space, for which it gets nodes before it takes the lock.
    ///
    /// It does not wait for memory: the bio may be what frees some. Free space that cannot be
    /// recorded is lost.
    fn record(&self, change: impl FnOnce(&mut Tracker)) {
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        // If this fails, the change does with what is in stock.
        let spare = super::Nodes::new(super::RangeTree::NODES_PER_SET, flags)
            .and_then(|mut nodes| nodes.fill(flags).map(|()| nodes));
        if let Some(tracker) = &mut *self.tracker.lock() {
            if let Ok(mut spare) = spare {
                tracker.nodes.top_up(&mut spare);
            }
            change(tracker);
        }
    }

    /// Gives a bio to the worker.
    fn hold(this: ArcBorrow<'_, Self>, bio: Bio<Self>, ticket: Ticket) {
        let awaited = {
            let mut incoming = this.incoming.lock();
            incoming.bios.push(bio);
            incoming.bios.len() >= incoming.awaited
        };
        // The ticket is held until the worker is sure to come by.
        if awaited {
            Arc::from(this).kick();
        }
        this.epoch.leave(ticket);
    }

    /// A bio ended. Any context.
    #[inline]
    pub(super) fn bio_ended(&self, ticket: BioData) {
        if let Some(ticket) = ticket {
            self.epoch.leave(ticket);
        }
    }

    /// Submits a bio that may go down, with a ticket, from the worker.
    pub(super) fn submit(&self, mut bio: Bio<Self>, ticket: Ticket) {
        *bio.data() = Some(ticket);
        bio.submit();
    }

    /// Takes what came since the last time. Until [`rest`](Self::rest) the worker looks again anyway.
    pub(super) fn take_incoming(&self) -> BioList<Self> {
        let mut taken = BioList::new();
        let mut incoming = self.incoming.lock();
        taken.append(&mut incoming.bios);
        incoming.awaited = usize::MAX;
        taken
    }

    /// The worker goes to sleep, and is to be woken when there are `awaited` bios; what is in flight
    /// wakes it when it ends. Returns whether it may: not if what it waits for is there.
    pub(super) fn rest(&self, awaited: usize) -> bool {
        let mut incoming = self.incoming.lock();
        incoming.awaited = awaited;
        incoming.bios.len() < awaited
    }
}
