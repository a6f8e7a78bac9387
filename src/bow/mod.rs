// SPDX-License-Identifier: GPL-2.0

//! The target, which carries out the [decisions](crate::decisions).
//!
//! - [`target`]: implementation of the device-mapper trait.
//! - [`ctr`]: conversion of a table line into a [`Bow`].
//! - [`resume`]: going on with a checkpoint after a reboot.
//! - [`map`]: handling of a bio in its submitter's context.
//! - [`tracking`]: states 0 and 2, the record of free space.
//! - [`deferred`]: bios handed to the worker.
//! - [`worker`]: the device's one worker.
//! - [`active`]: state 1, batches of first writes.
//! - [`slot`]: the phases of one batch; [`slot_io`]: their I/O.
//! - [`flight`]: completions of that I/O.
//! - [`writable`]: use of the map of writable blocks; [`writable_map`]: the map; [`writable_word`]: its bits.
//! - [`change`]: changes of state.
//! - [`free_map_io`]: writing of the free map.
//! - [`announce`]: events and uevents.
//! - [`status`]: status and table lines, sysfs files.
//!
//! # States
//!
//! `map` acts on the [`Mode`], which only the worker changes. A change to [`Mode::Changing`] is followed by a
//! drain. So a bio that holds a ticket was mapped under the current mode, or the worker is
//! waiting for that bio.
//!
//! # Locks
//!
//! - [`Bow::worker`] (mutex): held by the worker while it runs; nobody else takes the lock while the device
//!   is in use. The worker sleeps only for the drain and the I/O of a change of state, for a bio of the
//!   reserve, and where the block layer makes a submitter wait; none of these needs the worker.
//! - [`Bow::deferred`], [`Bow::tracker`], [`Bow::report`], [`Bow::wanted`] (spinlocks, process context only):
//!   leaves, held for a few instructions; `tracker` until one operation on the range tree is done, or some 64
//!   free ranges are forgotten.
//! - [`Bow::directory`] (mutex): taken by resume and removal.
//! - The lock of [`Bow::events`] (mutex): a leaf, taken by resume, by suspend, and to raise an event. No holder
//!   waits for I/O.
//! - [`Bow::requests`] (mutex): held by a thread that asks for a change of state until the change is done,
//!   and by resume and suspend. The worker does not take it.
//! - [`Bow::answer`] (mutex): a leaf.
//!
//! The lock order is `requests`, `worker`, then a leaf. No lock is held across I/O but `worker` and `requests`,
//! which no writer of the device waits for.
//!
//! # Atomics
//!
//! | atomic | orders |
//! |---|---|
//! | [`Bow::mode`] | The store releases what the new mode needs, a load acquires that. Who must not be under way in the old mode any more is waited for by the drain after the store. |
//! | [`Bow::drained`] | Set with release after the drain, taken with acquire: who sees it set sees what the drain has waited for. |
//! | [`Bow::first_block_io`] | Full: who finds 0 sees the I/O of the first block done. |
//! | those of a [`Flight`] | The count is full and orders the others, which are relaxed. |
//! | the words of a [`writable_map`] | Nothing: tickets do ([`writable_word`]). |
//! | [`Bow::on_full`], [`Bow::low_water`], [`Bow::is_low_told`], [`Bow::suspending`] | Nothing: settings, and flags for the worker, who is woken after them if it matters; queueing work is a full barrier. |
//! | [`Bow::hits`], [`Bow::granted`] | Nothing: counters. A full barrier orders raising `granted` before the blocks are granted: whoever lowers it for a block finds that block counted. |

mod active;
mod announce;
mod change;
mod ctr;
mod deferred;
mod flight;
mod free_map_io;
mod map;
mod resume;
mod slot;
mod slot_io;
mod status;
mod target;
mod tracking;
mod worker;
mod writable;
mod writable_map;
mod writable_word;

use self::{
    deferred::Deferred,
    flight::Flight,
    resume::Resumed,
    status::Report,
    tracking::Tracker,
    worker::{
        Change,
        Worker, //
    },
    writable_map::WritableMap,
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
        workqueue::OwnQueue, //
    },
    decisions::{
        block_size::BlockSize,
        low_water::LowWater,
        ranges::Nodes,
        state::State,
        table::{
            Arguments,
            OnFull, //
        },
    },
};
use kernel::{
    new_condvar, new_mutex, new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Relaxed,
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

/// Bio of the mapped device that is being mapped.
type NewBio<'a> = dm::bio::NewBio<'a, map::BioData>;

/// List of bios of the mapped device.
type BioList = dm::bio_list::BioList<map::BioData>;

/// Number of batches of first writes that can be in flight at a time.
const BATCHES: usize = 2;

/// Number of the slot of a batch of grants alone, which does not wait for the copies of the others.
const GRANTS: usize = BATCHES;

/// Number of slots.
const SLOTS: usize = BATCHES + 1;

/// Number of bios that a device has in reserve for its internal I/O.
const BIOS_RESERVE: u32 = 16;

/// Mode of a device: what `map` does with a bio depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// The device is in this state.
    State(State),
    /// The state is being changed: every bio that could tell the difference is deferred.
    Changing,
}

impl Mode {
    /// Returns the number that stands for the mode in [`Bow::mode`].
    const fn to_raw(self) -> u32 {
        match self {
            Mode::State(state) => state.number(),
            Mode::Changing => 3,
        }
    }

    /// Returns the mode that a number stands for.
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
    /// I/O in flight to the underlying device that a change of state or the reuse of discarded space waits
    /// for. The value, the map of writable blocks, is empty except in state 1.
    #[pin]
    in_flight: SrcuCell<WritableMap>,
    /// Bios for internal I/O.
    #[pin]
    bios: BioSet<Bow>,
    device: Arc<Device>,
    /// Size of the device in sectors.
    sectors: u64,
    block: BlockSize,
    /// Policy for writes for whose backup there is no free space.
    ///
    /// The number of an [`OnFull`].
    on_full: Atomic<u32>,
    /// Low-water mark.
    ///
    /// The number of a [`LowWater`].
    low_water: Atomic<u64>,
    /// Set when it was told that free space is below the mark.
    is_low_told: Atomic<u32>,
    /// Set from the begin of a suspend to the next resume.
    suspending: Atomic<u32>,
    /// Set if discards are only recorded.
    no_discard_passdown: bool,
    /// Set if the underlying device takes discards.
    discards: bool,
    /// The current [`Mode`], as a number.
    mode: Atomic<u32>,
    /// Number of prefetched blocks that were written or discarded since the worker last read the counter.
    hits: Atomic<u64>,
    /// Number of granted blocks that nobody has written to, and that can be taken back.
    granted: Atomic<u64>,
    /// Record of free space; empty in state 1.
    #[pin]
    tracker: SpinLock<Option<Tracker>>,
    /// Bios that the worker has not seen yet.
    #[pin]
    deferred: SpinLock<Deferred>,
    /// Wakes submitters that sleep until fewer bios are deferred.
    #[pin]
    room: CondVar,
    /// Number of bios in flight to the relocated first block. A move of that block waits for them.
    first_block_io: Atomic<u32>,
    /// Completions of the batches in flight.
    flights: [Flight; SLOTS],
    /// State that only the worker uses.
    #[pin]
    worker: Mutex<Worker>,
    /// Copy of what the worker knows, for status.
    #[pin]
    report: SpinLock<Report>,
    /// Held by a thread that asks the worker for something. The value says whether a change of state is
    /// accepted from sysfs: not while the device is suspended.
    #[pin]
    requests: Mutex<bool>,
    /// Request for the worker, until the worker takes it.
    #[pin]
    wanted: SpinLock<Option<Change>>,
    /// Result of the request, until the requester has seen it.
    #[pin]
    answer: Mutex<Option<Result>>,
    /// Wakes the requester when `answer` is set.
    #[pin]
    answered: CondVar,
    /// Device-mapper events of the live table.
    events: Arc<Events>,
    /// Directory in sysfs; created by the first resume, removed when the device is destroyed.
    #[pin]
    directory: Mutex<Option<Directory<Bow>>>,
    /// Queue of the work items that writes wait for.
    queue: OwnQueue,
    /// Queue of [`Bow::event_work`], which may wait for anybody's memory and locks.
    event_queue: OwnQueue,
    /// Work item of the worker.
    #[pin]
    work: Work<Bow>,
    /// Work item that waits for writes in flight, so that the worker need not.
    #[pin]
    drain_work: Work<Bow, DRAIN>,
    /// Work item that sends a uevent.
    #[pin]
    event_work: Work<Bow, EVENT>,
    /// Set when `drain_work` has run, until the worker has seen it.
    drained: Atomic<u32>,
}

impl_has_work! {
    impl HasWork<Self> for Bow { self.work }
    impl HasWork<Self, DRAIN> for Bow { self.drain_work }
    impl HasWork<Self, EVENT> for Bow { self.event_work }
}

impl WorkItem for Bow {
    type Pointer = Arc<Bow>;

    fn run(this: Arc<Bow>) {
        worker::run(&this);
    }
}

/// Identifies [`Bow::drain_work`].
const DRAIN: u64 = 1;

/// Identifies [`Bow::event_work`].
const EVENT: u64 = 2;

impl WorkItem<EVENT> for Bow {
    type Pointer = Arc<Bow>;

    fn run(this: Arc<Bow>) {
        this.send_uevent();
    }
}

impl WorkItem<DRAIN> for Bow {
    type Pointer = Arc<Bow>;

    fn run(this: Arc<Bow>) {
        this.drain();
        this.drained.store(1, Release);
        this.wake();
    }
}

impl Bow {
    /// Returns the policy for writes for whose backup there is no free space.
    fn on_full(&self) -> OnFull {
        OnFull::from_raw(self.on_full.load(Relaxed))
    }

    /// Returns the low-water mark.
    fn low_water(&self) -> LowWater {
        LowWater::from_raw(self.low_water.load(Relaxed))
    }

    /// Returns the current mode. Any context.
    #[inline]
    fn mode(&self) -> Mode {
        Mode::from_raw(self.mode.load(Acquire))
    }

    /// Changes the mode. Where the old mode matters, the caller then [drains](Self::drain).
    fn set_mode(&self, mode: Mode) {
        self.mode.store(mode.to_raw(), Release);
    }

    /// Starts a drain: sets [`Bow::drained`] and wakes the worker when all I/O that holds a ticket now has
    /// completed. Any context.
    fn begin_drain(self: &Arc<Self>) {
        let _ = self.queue.enqueue::<_, DRAIN>(self.clone());
    }

    /// Waits until all I/O that holds a ticket now has completed. Sleeps.
    fn drain(&self) {
        self.in_flight.drain();
    }

    /// Wakes the worker, which runs once more. Any context.
    fn wake(self: &Arc<Self>) {
        // A worker that is queued already has not started to look.
        let _ = self.queue.enqueue::<_, 0>(self.clone());
    }

    /// Creates a device in state 0, or in state 1 if a checkpoint was resumed. `device` is the underlying device,
    /// `sectors` its size in sectors, and `discards` says whether the underlying device takes discards. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    fn new(
        device: Arc<Device>,
        events: Arc<Events>,
        sectors: u64,
        block: BlockSize,
        arguments: &Arguments,
        discards: bool,
        resumed: Option<Resumed>,
    ) -> Result<impl PinInit<Self, Error>> {
        let on_full = arguments.on_full.unwrap_or(OnFull::Error);
        let no_discard_passdown = arguments.no_discard_passdown;
        let low_water = arguments.low_water.unwrap_or(LowWater::NONE);
        let queue = OwnQueue::reclaim(c"dm-bow")?;
        let event_queue = OwnQueue::ordinary(c"dm-bow-events")?;
        let (state, active, writable) = match resumed {
            Some(Resumed { active, writable }) => (State::Checkpoint, Some(active), Some(writable)),
            None => (State::Tracking, None, None),
        };
        // Of a checkpoint the worker reports the rest when the table goes live.
        let report = Report::of_state(state);
        let nodes = match state {
            State::Tracking => Some(Nodes::new(Tracker::NODES, GFP_KERNEL)?),
            _ => None,
        };
        Ok(try_pin_init!(Self {
            in_flight <- SrcuCell::new(writable),
            bios <- BioSet::new(BIOS_RESERVE),
            device,
            sectors,
            block,
            on_full: Atomic::new(on_full.to_raw()),
            low_water: Atomic::new(low_water.to_raw()),
            is_low_told: Atomic::new(0),
            suspending: Atomic::new(0),
            no_discard_passdown,
            discards,
            mode: Atomic::new(Mode::State(state).to_raw()),
            hits: Atomic::new(0),
            granted: Atomic::new(0),
            tracker <- new_spinlock!(nodes.map(Tracker::new), "dm_bow_tracker"),
            deferred <- new_spinlock!(Deferred::new(), "dm_bow_deferred"),
            room <- new_condvar!("dm_bow_room"),
            first_block_io: Atomic::new(0),
            flights: core::array::from_fn(|_| Flight::new()),
            worker <- new_mutex!(Worker::new(active), "dm_bow_worker"),
            report <- new_spinlock!(report, "dm_bow_report"),
            requests <- new_mutex!(false, "dm_bow_requests"),
            wanted <- new_spinlock!(None, "dm_bow_wanted"),
            answer <- new_mutex!(None, "dm_bow_answer"),
            answered <- new_condvar!("dm_bow_answered"),
            events,
            directory <- new_mutex!(None, "dm_bow_directory"),
            queue,
            event_queue,
            work <- new_work!("dm_bow_work"),
            drain_work <- new_work!("dm_bow_drain"),
            event_work <- new_work!("dm_bow_event"),
            drained: Atomic::new(0),
        }))
    }
}
