// SPDX-License-Identifier: GPL-2.0

//! Handling of a bio at once, in its submitter's context.
//!
//! Reads outside the first block, flushes, and in state 1 writes to writable blocks take no lock and go
//! straight to the underlying device. In states 0 and 2 writes and discards update the record of free space
//! under a spinlock. All other bios go to the [worker](super::worker).

use super::{
    Bio,
    Bow,
    Mode,
    NewBio, //
};
use crate::{
    abstractions::{
        block::bio::{
            Operation,
            Status, //
        },
        srcu::Ticket, //
    },
    decisions::state::State,
};
use kernel::sync::{
    atomic::ordering::Full,
    Arc,
    ArcBorrow, //
};

/// Data that [`Bow`] keeps with each bio until the bio completes.
#[derive(Default)]
pub(crate) enum BioData {
    /// Nothing waits for the bio.
    #[default]
    None,
    /// The bio holds a ticket of [`Bow::in_flight`].
    Ticket(Ticket),
    /// The bio holds a ticket of [`Bow::in_flight`], and is counted as I/O of the relocated first block.
    FirstBlock(Ticket),
}

impl Bow {
    /// Decides about a bio of the mapped device. Returns the bio if it is to be sent to the underlying
    /// device; otherwise the bio is deferred or has been ended.
    ///
    /// # Context
    ///
    /// Process context. Sleeps while too many bios are deferred, but then holds no ticket.
    #[inline]
    pub(super) fn map_bio(this: ArcBorrow<'_, Self>, mut bio: NewBio<'_>) -> Option<Bio> {
        loop {
            let operation = bio.operation();
            let first_block = this.is_in_first_block(&bio);
            if operation == Operation::Flush || (operation == Operation::Read && !first_block) {
                return Some(bio.keep());
            }

            bio.clear_polled();
            let ticket = this.in_flight.enter();
            // The mode is certain only with the ticket, which a change of mode waits for.
            let is_sent = match this.mode() {
                Mode::State(State::Tracking | State::Committed) => {
                    if !this.track(&bio) {
                        drop(ticket);
                        bio.keep().end(Status::OK);
                        return None;
                    }
                    true
                }
                Mode::State(State::Checkpoint) => {
                    operation == Operation::Write
                        && !first_block
                        && this.is_writable(&bio.span(), &ticket)
                }
                Mode::Changing => false,
            };
            if is_sent {
                return Some(bio.keep_with(BioData::Ticket(ticket)));
            }
            bio = Self::defer(this, bio, ticket)?;
        }
    }

    /// Returns whether a bio begins in the first block.
    #[inline]
    pub(super) fn is_in_first_block(&self, bio: &Bio) -> bool {
        bio.sector() < self.block.sectors()
    }

    /// Gives back what a bio that has completed holds. Any context.
    #[inline]
    pub(super) fn bio_ended(this: ArcBorrow<'_, Self>, data: BioData) {
        match data {
            BioData::None => {}
            BioData::Ticket(ticket) => drop(ticket),
            BioData::FirstBlock(ticket) => Self::first_block_io_ended(this, ticket),
        }
    }

    /// Counts I/O of the relocated first block that has completed, and gives back `ticket`. Any context.
    #[cold]
    fn first_block_io_ended(this: ArcBorrow<'_, Self>, ticket: Ticket) {
        if this.first_block_io.fetch_sub(1, Full) == 1 {
            // A batch may wait for this completion, to move the relocated first block.
            Arc::from(this).wake();
        }
        drop(ticket);
    }

    /// Submits a bio to the underlying device. The bio holds `ticket` until it completes. Called by the
    /// worker.
    pub(super) fn submit(&self, mut bio: Bio, ticket: Ticket) {
        *bio.data() = BioData::Ticket(ticket);
        bio.submit();
    }

    /// Submits a bio of the first block to the relocated first block, which begins at sector `sector0`.
    /// Called by the worker.
    pub(super) fn submit_to_first_block(&self, mut bio: Bio, sector0: u64) {
        bio.set_sector(sector0.wrapping_add(bio.sector()));
        self.first_block_io.fetch_add(1, Full);
        *bio.data() = BioData::FirstBlock(self.in_flight.enter());
        bio.submit();
    }
}
