// SPDX-License-Identifier: GPL-2.0

//! The device's one worker: it owns the range tree and the log in state 1, gathers held bios into
//! batches, and changes the state.
//!
//! The worker is a work item that runs whenever a bio was held, I/O of its own ended, or a change
//! of state was asked for. It does what can be done without waiting for the I/O that it starts, and
//! returns.
//!
//! # Order of bios
//!
//! Bios that overlap and are in flight together have no order among them, as on any device. A bio
//! that comes after another one has ended sees that one's effect, since the range tree is changed
//! before a bio goes out or ends.

use super::{
    active::{
        Active,
        Gathered, //
    },
    Bio,
    BioList,
    Bow,
    Mode, //
};
use crate::{
    abstractions::{
        block::bio::plugged,
        workqueue::NoIo, //
    },
    decisions::state::State,
};
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::Relaxed,
        Arc, //
    },
};

/// What only the worker uses.
pub(super) struct Worker {
    /// State 1.
    pub(super) active: Option<KBox<Active>>,
    /// Bios that nobody has looked at yet.
    fresh: BioList,
    /// Bios that need a batch that has room.
    waiting: BioList,
    /// A change of state that waits for the batches to end.
    pub(super) change: Option<Change>,
}

/// What is to be done when no batch is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing: someone waits for the answer, and with it for the batches to end.
    None,
    /// A change to that state, for someone who waits for the answer.
    Requested(State),
    /// A commit, since that is what `on_full:commit` says.
    Policy,
}

/// The work item.
pub(super) fn run(bow: &Arc<Bow>) {
    let _noio = NoIo::enter();
    bow.worker.lock().run(bow);
}

impl Worker {
    pub(super) fn new() -> Self {
        Self {
            active: None,
            fresh: BioList::new(),
            waiting: BioList::new(),
            change: None,
        }
    }

    fn run(&mut self, bow: &Arc<Bow>) {
        loop {
            if self.change.is_none() {
                self.change = bow.wanted.lock().take();
            }
            self.fresh.append(&mut bow.take_deferred(self.taken()));
            if let Some(active) = &mut self.active {
                active.advance(bow, &mut self.waiting);
                active.checkpoint.prefetch_hits(bow.hits.xchg(0, Relaxed));
                active.reclaim(bow);
            }
            if let Some(change) = self.change {
                if self.active.as_ref().is_none_or(|active| active.is_idle()) {
                    self.change = None;
                    self.carry_out(bow, change);
                    continue;
                }
                // What is under way wakes the worker when it ends.
                if bow.sleep_worker(self.taken(), usize::MAX) {
                    break;
                }
            } else if !plugged(|| self.dispatch(bow))
                && bow.sleep_worker(self.taken(), self.awaited())
            {
                break;
            }
        }
        self.publish(bow);
    }

    /// Returns the number of bios that the worker has taken and not sent on.
    fn taken(&self) -> usize {
        let joined = self.active.as_ref().map_or(0, |active| active.enough());
        self.waiting.len() + self.fresh.len() + joined
    }

    /// Returns how many more deferred bios are worth waking up for, before I/O that is in flight has ended.
    fn awaited(&self) -> usize {
        let active = self.active.as_ref();
        active.map_or(1, |active| active.awaited(self.waiting.len()))
    }

    /// Sends held bios on their way. Returns whether there is more to do at once.
    fn dispatch(&mut self, bow: &Arc<Bow>) -> bool {
        match &mut self.active {
            Some(active) => match active.gather(bow, &mut self.waiting, &mut self.fresh) {
                Gathered::Nothing => false,
                Gathered::Some => true,
                Gathered::Commit => {
                    self.change = Some(Change::Policy);
                    true
                }
            },
            None => {
                self.waiting.append(&mut self.fresh);
                while let Some(bio) = self.waiting.pop() {
                    bow.pass(bio);
                }
                false
            }
        }
    }

    pub(super) fn publish(&self, bow: &Bow) {
        if let Some(active) = &self.active {
            *bow.report.lock() = active.report();
        }
    }
}

impl Bow {
    /// Sends a held bio on its way in a state other than 1.
    fn pass(&self, bio: Bio) {
        if self.mode() == Mode::State(State::Tracking) {
            let ticket = self.in_flight.enter();
            if let Some(bio) = self.track(bio, ticket) {
                bio.submit();
            }
        } else {
            self.submit(bio, self.in_flight.enter());
        }
    }
}
