// SPDX-License-Identifier: GPL-2.0

//! The device's one worker. In state 1 it owns the range tree and the log and gathers deferred bios into
//! batches; it also changes the state.
//!
//! The worker is a work item that [`Bow::wake`] queues: when a bio was deferred, when the last I/O of a phase
//! of a batch has completed, when the last I/O of the relocated first block has, when a drain of discarded
//! space has ended, and when a change of state was requested or the table is suspended. It never waits for
//! the I/O of a batch: it starts that I/O and returns.
//!
//! # Order of bios
//!
//! Overlapping bios that are in flight together have no order among them, as on any device. A bio that is
//! submitted after another one has completed sees the effect of that one, since the range tree is changed
//! before a bio is sent on or ended.

use super::{
    active::{
        Active,
        Gathered, //
    },
    Bio,
    BioList,
    Bow, //
};
use crate::{
    abstractions::{
        block::bio::{
            plugged,
            Status, //
        },
        workqueue::NoIo, //
    },
    decisions::{
        log::Boot,
        state::State, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::Relaxed,
        Arc, //
    },
};

/// Data that only the worker uses.
pub(super) struct Worker {
    /// The checkpoint, in state 1.
    pub(super) active: Option<KBox<Active>>,
    /// Bios that were not looked at yet.
    fresh: BioList,
    /// Bios that wait for a batch with room.
    waiting: BioList,
    /// Change of state that waits for the batches in flight.
    pub(super) change: Option<Change>,
    /// Action at the next boot that the next checkpoint begins with, if one was named in state 0.
    pub(super) boot: Option<Boot>,
}

/// Change to be made when no batch is in flight, and but for [`Change::Log`] no drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// None: the requester only waits until no batch is in flight.
    None,
    /// A change to the given state; the requester waits for the result.
    Requested(State),
    /// A commit because of `on_full:commit`; nobody waits for the result.
    Policy,
    /// The log block is written again, with what is to be done at the next boot if that changes; in state 0 the next
    /// checkpoint begins with that. The requester waits for the result.
    Log(Option<Boot>),
}

/// Runs the worker. Process context; sleeps.
pub(super) fn run(bow: &Arc<Bow>) {
    let _noio = NoIo::enter();
    bow.worker.lock().run(bow);
}

impl Worker {
    /// Creates the worker of a device in state 0, or of one with a checkpoint.
    pub(super) fn new(active: Option<KBox<Active>>) -> Self {
        Self {
            active,
            fresh: BioList::new(),
            waiting: BioList::new(),
            change: None,
            boot: None,
        }
    }

    /// Does all that can be done without waiting for the I/O of a batch.
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
                if self.is_due(bow, change) {
                    self.change = None;
                    self.carry_out(bow, change);
                    continue;
                }
                // Completions of the batches in flight wake the worker.
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

    /// Returns whether `change` can be carried out now.
    fn is_due(&self, bow: &Bow, change: Change) -> bool {
        let Some(active) = &self.active else {
            return true;
        };
        match change {
            // It is refused, for which nothing has to end.
            Change::Requested(state) if bow.report.lock().state.next() != state => true,
            // Logs are written beside a drain as ever.
            Change::Log(_) => active.has_no_batch(),
            _ => active.is_idle(),
        }
    }

    /// Returns the number of bios that the worker has taken and not sent on.
    fn taken(&self) -> usize {
        let joined = self.active.as_ref().map_or(0, |active| active.joined());
        self.waiting.len() + self.fresh.len() + joined
    }

    /// Returns how many more deferred bios are worth waking up for before I/O in flight completes.
    fn awaited(&self) -> usize {
        let active = self.active.as_ref();
        active.map_or(1, |active| active.awaited(self.waiting.len()))
    }

    /// Sends deferred bios on. Returns whether there is more to do at once.
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

    /// Copies what status shows of the checkpoint to the report.
    pub(super) fn publish(&self, bow: &Arc<Bow>) {
        if let Some(active) = &self.active {
            active.publish(bow);
            bow.look_at_low_water();
        }
    }
}

impl Bow {
    /// Sends on a deferred bio in a state other than 1.
    fn pass(&self, bio: Bio) {
        let ticket = self.in_flight.enter();
        if self.track(&bio) {
            self.submit(bio, ticket);
        } else {
            drop(ticket);
            bio.end(Status::OK);
        }
    }
}
