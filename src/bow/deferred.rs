// SPDX-License-Identifier: GPL-2.0

//! Bios that are handed to the worker: who defers them, who takes them, and who wakes whom.
//!
//! # Bound
//!
//! At most about [`DEFERRED_MAX`] bios wait for the worker or in its batches: who brings one more sleeps
//! until half of them have gone on, or is told to try again if it must not sleep (`REQ_NOWAIT`). A bio of a
//! thread that has others of its own on their way through the block layer is always taken: the worker may
//! have to wait for those, and so the thread must not sleep before it has sent them.

use super::{
    Bio,
    BioList,
    Bow, //
};
use crate::abstractions::{
    block::bio::{
        no_bio_is_pending,
        Status, //
    },
    srcu::Ticket,
};
use kernel::sync::{
    Arc,
    ArcBorrow, //
};

/// Deferred bios beyond which their submitters wait: enough for a dozen batches.
const DEFERRED_MAX: usize = 1024;

/// The bios that the worker has not seen yet.
pub(super) struct Deferred {
    bios: BioList,
    /// Number of bios in the list with which the worker is woken.
    awaited: usize,
    /// Number of bios that the worker has taken and not sent on.
    taken: usize,
    /// Set while a submitter waits for room.
    has_waiters: bool,
}

impl Deferred {
    /// Creates the empty list of a device whose worker sleeps.
    pub(super) const fn new() -> Self {
        Self {
            bios: BioList::new(),
            awaited: 1,
            taken: 0,
            has_waiters: false,
        }
    }

    fn len(&self) -> usize {
        self.bios.len().saturating_add(self.taken)
    }
}

/// A reason to wake the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    /// The bio needs no batch: the worker sends it on at once.
    Now,
    /// The bio may need a batch: the worker is woken when it waits for so many.
    WhenAwaited,
}

impl Bow {
    /// Gives a bio to the worker. Returns it if it has to wait for room first, by
    /// [`wait_for_room`](Self::wait_for_room).
    pub(super) fn defer(
        this: ArcBorrow<'_, Self>,
        mut bio: Bio,
        ticket: Ticket,
        wake: Wake,
    ) -> Option<Bio> {
        let wakes = {
            let mut deferred = this.deferred.lock();
            if deferred.len() >= DEFERRED_MAX && (bio.is_nowait() || no_bio_is_pending()) {
                drop(deferred);
                drop(ticket);
                if bio.is_nowait() {
                    bio.end(Status::AGAIN);
                    return None;
                }
                return Some(bio);
            }
            bio.clear_nowait();
            deferred.bios.push(bio);
            wake == Wake::Now || deferred.bios.len() >= deferred.awaited
        };
        // The ticket is held until the worker is sure to come by.
        if wakes {
            Arc::from(this).wake();
        }
        drop(ticket);
        None
    }

    /// Sleeps until there is room for another deferred bio.
    pub(super) fn wait_for_room(&self) {
        let mut deferred = self.deferred.lock();
        while deferred.len() >= DEFERRED_MAX {
            deferred.has_waiters = true;
            self.room.wait(&mut deferred);
        }
    }

    /// Takes the bios that came since the last time; the worker has `taken` others. Until
    /// [`sleep_worker`](Self::sleep_worker) the worker looks again anyway.
    pub(super) fn take_deferred(&self, taken: usize) -> BioList {
        let mut bios = BioList::new();
        let mut deferred = self.deferred.lock();
        bios.append(&mut deferred.bios);
        deferred.awaited = usize::MAX;
        deferred.taken = taken.saturating_add(bios.len());
        bios
    }

    /// Puts the worker to sleep, with `taken` bios in its hands, until there are `awaited` more; what is in
    /// flight wakes it when it ends. Returns whether it may: not if what it waits for is there.
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
