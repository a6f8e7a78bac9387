// SPDX-License-Identifier: GPL-2.0

//! The target: it asks the [decisions](crate::decisions) what is to be done, and does it.
//!
//! - [`ctr`]: a table line becomes a [`Bow`], or a reason why not.
//! - [`map`]: what happens to a bio at once, in its submitter's context.
//! - [`deferred`]: bios on their way to the worker.
//! - [`worker`]: what happens to the others, in the device's one worker.
//! - [`batch`]: the I/O of a batch of first writes.
//! - [`change`]: the changes of state.
//! - [`report`]: what users see and say: status, table, sysfs, messages.
//! - [`writable`]: the map of blocks that need nothing any more.
//!
//! # States
//!
//! The [`Mode`] is what `map` goes by. It is changed by the worker only, followed by a drain of the
//! epoch; so a bio in flight was mapped under the mode that holds, or the worker is waiting for it.
//!
//! # Locks
//!
//! - [`Bow::worker`] (mutex): taken by the worker, which holds it while it runs; nobody else takes
//!   it while the device is in use. The worker sleeps only for a change of state, for the drain of
//!   the epoch, and for a request of the device below; none of these needs the worker.
//! - [`Bow::deferred`], [`Bow::tracker`], [`Bow::report`], [`Bow::wanted`] (spinlocks, process
//!   context only): leaves, held for a few instructions or one operation on the range tree.
//! - [`Bow::directory`] and the lock of [`Bow::events`] (mutexes): taken by resume, suspend and
//!   removal; the second by the worker too, to raise an event, for which it does not wait on I/O.
//! - [`Bow::requests`] (mutex) is held by who asks for a change of state, until it is done, and by
//!   resume and suspend; the worker does not take it. [`Bow::answer`] (mutex) is a leaf.
//! - Order: `requests`, `worker`, then a leaf.
//!
//! No lock is held across I/O but `worker` and `requests`, which no writer of the device waits for.

mod active;
mod change;
mod ctr;
mod deferred;
mod flight;
mod map;
mod slot;
mod status;
mod target;
mod tracking;
mod worker;
mod writable;

use self::{
    deferred::Deferred,
    flight::Flight,
    status::Report,
    tracking::Tracker,
    worker::{
        Change,
        Worker, //
    },
    writable::WritableMap,
};
use crate::{
    abstractions::{
        block::{
            bio_set::BioSet,
            device::Device, //
        },
        dm::{
            self,
            events::Events, //
        },
        srcu::SrcuCell,
        sysfs::Directory,
        workqueue::ReclaimQueue, //
    },
    decisions::{
        block_size::BlockSize,
        free_space::FreeSpace,
        ranges::Nodes,
        state::State,
        table::OnFull, //
    },
};
use kernel::{
    new_condvar, new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Release, //
            },
            Atomic, //
        },
        Arc,
        CondVar,
        Mutex,
        SpinLock, //
    },
    workqueue::{
        impl_has_work,
        new_work,
        Work,
        WorkItem, //
    },
};

/// Bio of the mapped device.
type Bio = dm::bio::Bio<map::BioData>;

/// List of bios of the mapped device.
type BioList = dm::bio_list::BioList<map::BioData>;

/// The batches of first writes that can be under way at a time.
const SLOTS: usize = 2;

/// Bios of its own that a device has in reserve.
const OWN_BIOS: u32 = 16;

/// What `map` goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The device is in this state.
    State(State),
    /// The state is being changed: whatever could depend on it is held.
    Changing,
}

impl Mode {
    const fn to_raw(self) -> u32 {
        match self {
            Mode::State(state) => state.number(),
            Mode::Changing => 3,
        }
    }

    const fn from_raw(raw: u32) -> Self {
        match raw {
            0 => Mode::State(State::Tracking),
            1 => Mode::State(State::Checkpoint),
            2 => Mode::State(State::Committed),
            _ => Mode::Changing,
        }
    }
}

/// A device-mapper device of this target.
#[pin_data]
pub(crate) struct Bow {
    /// I/O that a change of state, a move of the relocated first block, or the reuse of discarded space waits
    /// for. The value is empty except in state 1.
    #[pin]
    in_flight: SrcuCell<WritableMap>,
    #[pin]
    bios: BioSet<Bow>,
    device: Arc<Device>,
    /// Size of the device in sectors.
    sectors: u64,
    block: BlockSize,
    on_full: OnFull,
    /// A [`Mode`].
    mode: Atomic<u32>,
    /// Blocks that were backed up ahead of their first write, and were written since the worker has
    /// looked.
    hits: Atomic<u64>,
    /// Empty except in state 0.
    #[pin]
    tracker: SpinLock<Option<Tracker>>,
    #[pin]
    deferred: SpinLock<Deferred>,
    /// Where submitters wait for `deferred` to get shorter.
    #[pin]
    room: CondVar,
    /// I/O of the live first block that is in flight.
    first_block_io: Atomic<u32>,
    /// What the interrupts say about the batches under way.
    flights: [Flight; SLOTS],
    #[pin]
    worker: Mutex<Worker>,
    #[pin]
    report: SpinLock<Report>,
    /// Held by who asks something of the worker. Whether a change of state is taken from sysfs: not
    /// while the device is suspended.
    #[pin]
    requests: Mutex<bool>,
    /// What was requested, until the worker takes it up.
    #[pin]
    wanted: SpinLock<Option<Change>>,
    /// How the request ended, until the requester has seen it.
    #[pin]
    answer: Mutex<Option<Result>>,
    #[pin]
    answered: CondVar,
    events: Arc<Events>,
    #[pin]
    directory: Mutex<Option<Directory<Bow>>>,
    queue: ReclaimQueue,
    #[pin]
    work: Work<Bow>,
    #[pin]
    drain_work: Work<Bow, DRAIN>,
    /// Set when `drain_work` has run, until the worker has seen it.
    drained: Atomic<u32>,
}

impl_has_work! {
    impl HasWork<Self> for Bow { self.work }
    impl HasWork<Self, DRAIN> for Bow { self.drain_work }
}

impl WorkItem for Bow {
    type Pointer = Arc<Bow>;

    fn run(this: Arc<Bow>) {
        worker::run(&this);
    }
}

/// The work item that waits for writes in flight, so that the worker need not.
const DRAIN: u64 = 1;

impl WorkItem<DRAIN> for Bow {
    type Pointer = Arc<Bow>;

    fn run(this: Arc<Bow>) {
        this.drain();
        this.drained.store(1, Release);
        this.wake();
    }
}

impl Bow {
    #[inline]
    fn mode(&self) -> Mode {
        Mode::from_raw(self.mode.load(Acquire))
    }

    /// To be followed by a drain wherever the old mode matters.
    fn set_mode(&self, mode: Mode) {
        self.mode.store(mode.to_raw(), Release);
    }

    /// Asks to be told, by [`Bow::drained`], when all I/O below that is in flight has ended. Any context.
    fn begin_drain(self: &Arc<Self>) {
        let _ = self.queue.enqueue::<_, DRAIN>(self.clone());
    }

    /// Waits until all I/O below that was in flight has ended. Sleeps.
    fn drain(&self) {
        if !cfg!(bow_fault = "no_drain") {
            self.in_flight.drain();
        }
    }

    /// Wakes the worker: it runs once more. Any context.
    fn wake(self: &Arc<Self>) {
        // If it is queued already, it has not started to look.
        let _ = self.queue.enqueue::<_, 0>(self.clone());
    }

    fn new(
        device: Arc<Device>,
        events: Arc<Events>,
        sectors: u64,
        block: BlockSize,
        on_full: OnFull,
    ) -> Result<impl PinInit<Self, Error>> {
        let queue = ReclaimQueue::new(c"dm-bow")?;
        let tracker = Tracker {
            space: FreeSpace::new(),
            nodes: Nodes::new(Tracker::NODES, GFP_KERNEL)?,
        };
        Ok(try_pin_init!(Self {
            in_flight <- SrcuCell::new(),
            bios <- BioSet::new(OWN_BIOS),
            device,
            sectors,
            block,
            on_full,
            mode: Atomic::new(Mode::State(State::Tracking).to_raw()),
            hits: Atomic::new(0),
            tracker <- new_spinlock!(Some(tracker), "dm_bow_tracker"),
            deferred <- new_spinlock!(Deferred::new(), "dm_bow_deferred"),
            room <- new_condvar!("dm_bow_room"),
            first_block_io: Atomic::new(0),
            flights: core::array::from_fn(|_| Flight::new()),
            worker <- new_mutex!(Worker::new(), "dm_bow_worker"),
            report <- new_spinlock!(Report::default(), "dm_bow_report"),
            requests <- new_mutex!(false, "dm_bow_requests"),
            wanted <- new_spinlock!(None, "dm_bow_wanted"),
            answer <- new_mutex!(None, "dm_bow_answer"),
            answered <- new_condvar!("dm_bow_answered"),
            events,
            directory <- new_mutex!(None, "dm_bow_directory"),
            queue,
            work <- new_work!("dm_bow_work"),
            drain_work <- new_work!("dm_bow_drain"),
            drained: Atomic::new(0),
        }))
    }
}
