// SPDX-License-Identifier: GPL-2.0

//! Bios that are handed to the worker: deferring them, taking them, waking the worker and the submitters.
//!
//! # Bound
//!
//! At most about [`DEFERRED_MAX`] bios are deferred or in the worker's batches. The submitter of one more
//! sleeps until half of them have been sent on, unless the bio needs no batch; a bio that must not wait
//! (`REQ_NOWAIT`) ends with [`Status::AGAIN`]. If the submitting thread has other bios on their way through the block layer, the bio
//! is always accepted: the worker may have to wait for those bios, so the thread must not sleep before it has
//! submitted them.

use super::{
    BioList,
    Bow,
    NewBio, //
};
use crate::abstractions::{
    block::bio::{
        no_bio_is_pending,
        Operation,
        Status, //
    },
    srcu::Ticket,
};
use kernel::sync::{
    Arc,
    ArcBorrow, //
};

/// Number of deferred bios beyond which submitters sleep: enough for a dozen batches.
const DEFERRED_MAX: usize = 1024;

/// The bios that the worker has not seen yet.
pub(super) struct Deferred {
    /// Deferred bios, oldest first.
    bios: BioList,
    /// Length of the list at which the worker is woken.
    awaited: usize,
    /// Number of bios that the worker has taken and not yet sent on.
    taken: usize,
    /// Set while a submitter sleeps until fewer bios are deferred.
    has_waiters: bool,
}

impl Deferred {
    /// Creates an empty list, for a worker that sleeps.
    pub(super) const fn new() -> Self {
        Self {
            bios: BioList::new(),
            awaited: 1,
            taken: 0,
            has_waiters: false,
        }
    }

    /// Returns the number of bios that count towards [`DEFERRED_MAX`].
    fn len(&self) -> usize {
        self.bios.len().saturating_add(self.taken)
    }
}

impl Bow {
    /// Defers a bio to the worker, and gives back `ticket`. Returns the bio if there was no room for it, once
    /// there is: it may not have to be deferred any more.
    ///
    /// Sleeps while there is no room, but then holds no ticket.
    #[cold]
    pub(super) fn defer<'a>(
        this: ArcBorrow<'_, Self>,
        mut bio: NewBio<'a>,
        ticket: Ticket,
    ) -> Option<NewBio<'a>> {
        let first_block = this.is_in_first_block(&bio);
        if first_block {
            // From here on a bio is either in the first block or outside it, never both.
            bio.accept_partial(this.block.sectors().saturating_sub(bio.sector()));
        }
        let needs_no_batch = first_block || bio.operation() == Operation::Discard;
        let wakes = {
            let mut deferred = this.deferred.lock();
            // A discard may be what the others wait for; what needs no batch does not wait in line.
            if !needs_no_batch
                && deferred.len() >= DEFERRED_MAX
                && (bio.is_nowait() || no_bio_is_pending())
            {
                drop(deferred);
                drop(ticket);
                if bio.is_nowait() {
                    bio.keep().end(Status::AGAIN);
                    return None;
                }
                this.wait_for_room();
                return Some(bio);
            }
            let mut bio = bio.keep();
            bio.clear_nowait();
            deferred.bios.push(bio);
            // What may need a batch waits until there are as many as the worker waits for.
            needs_no_batch || deferred.bios.len() >= deferred.awaited
        };
        // The ticket is held until the worker is sure to run.
        if wakes {
            Arc::from(this).wake();
        }
        drop(ticket);
        None
    }

    /// Sleeps until another bio may be deferred. The caller holds no ticket.
    fn wait_for_room(&self) {
        let mut deferred = self.deferred.lock();
        while deferred.len() >= DEFERRED_MAX {
            deferred.has_waiters = true;
            self.room.wait(&mut deferred);
        }
    }

    /// Takes the bios deferred since the last call. `taken` is the number of bios that the worker has
    /// already. Until [`sleep_worker`](Self::sleep_worker) further bios wake the worker only if they need
    /// no batch, since it calls this again anyway.
    pub(super) fn take_deferred(&self, taken: usize) -> BioList {
        let mut bios = BioList::new();
        let mut deferred = self.deferred.lock();
        bios.append(&mut deferred.bios);
        deferred.awaited = usize::MAX;
        deferred.taken = taken.saturating_add(bios.len());
        bios
    }

    /// Prepares to let the worker sleep while it has `taken` bios, until `awaited` more are deferred;
    /// completions wake it too. Returns whether it may sleep: not if so many bios are deferred already.
    pub(super) fn sleep_worker(&self, taken: usize, awaited: usize) -> bool {
        let mut deferred = self.deferred.lock();
        deferred.taken = taken;
        deferred.awaited = awaited;
        if deferred.has_waiters && deferred.len() <= DEFERRED_MAX / 2 {
            deferred.has_waiters = false;
            self.room.notify_all();
        }
        deferred.bios.len() < awaited
    }
}
