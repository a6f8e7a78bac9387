// SPDX-License-Identifier: GPL-2.0

//! The changes of state: 0 → 1 takes the checkpoint, 1 → 2 gives it up.
//!
//! Both are carried out by the worker while every bio that could tell the difference is held, after
//! those in flight have ended ([`Mode::Changing`] and a drain). One write decides each
//! of them, of the device's first sector, which it writes wholly or not at all. So that this is
//! true of blocks of several sectors, the others of the first block are always written, and
//! durable, *before* the first sector that makes them count:
//!
//! - 0 → 1: the log's first sector comes with the old contents in the others; a cut before it
//!   leaves the old block, a cut after it a log, whose other sectors mean nothing. Then the others
//!   are overwritten with zeroes, which hides a file system's superblock from those who would mount
//!   the raw device.
//! - 1 → 2: the live contents go into the others while the first is the log still; then the whole
//!   block is written, of which only the first sector changes.

use super::{
    active::Active,
    slot::Slot,
    status::Report,
    tracking::Tracker,
    worker::{
        Change,
        Worker, //
    },
    writable::WritableMap,
    Bow,
    Mode, //
};
use crate::{
    abstractions::{
        block::buffer::{
            crc32,
            Buffer, //
        },
        time,
    },
    decisions::{
        checkpoint::{
            Checkpoint,
            Memory, //
        },
        free_space::FreeSpace,
        log::{
            entry_seed,
            Identity,
            Sector,
            SECTOR_SIZE, //
        },
        ranges::Nodes,
        state::State,
    },
};
use core::mem::MaybeUninit;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        MutexGuard, //
    },
};

/// The pages of the buffer that changes of state use.
const FIRST_BLOCK: usize = 0;
const LOG: usize = 1;

/// The way on which a change of state was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A message of device mapper, which keeps the table live until it has been answered.
    Message,
    /// The file in sysfs, of which device mapper knows nothing.
    Sysfs,
}

impl Bow {
    /// Changes the state on a user's behalf, and waits until that is done. Process context; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `state` is not the next one; `ENOSPC` if there is no free space at all; `EAGAIN`
    /// from sysfs while the device is suspended; the device's.
    pub(super) fn change_state(self: &Arc<Self>, state: State, source: Source) -> Result {
        let is_live = self.requests.lock();
        if source == Source::Sysfs && !*is_live {
            pr_err!(
                "{}: is suspended; it takes a change of state as a message only\n",
                self.device.name()
            );
            return Err(EAGAIN);
        }
        self.request(&is_live, Change::Requested(state))
    }

    /// Has the worker make a change when no batch is under way, and waits until that is done.
    /// Process context; sleeps.
    pub(super) fn request(
        self: &Arc<Self>,
        _requests: &MutexGuard<'_, bool>,
        change: Change,
    ) -> Result {
        *self.wanted.lock() = Some(change);
        self.wake();
        let mut answer = self.answer.lock();
        loop {
            if let Some(result) = answer.take() {
                return result;
            }
            self.answered.wait(&mut answer);
        }
    }

    /// Tells who made the request how it ended.
    fn reply(&self, result: Result) {
        *self.answer.lock() = Some(result);
        self.answered.notify_all();
    }

    /// The state, as users see it.
    pub(super) fn state(&self) -> State {
        match self.mode() {
            Mode::State(state) => state,
            Mode::Changing => self.report.lock().state,
        }
    }
}

impl Worker {
    /// Carries out a change of state. No batch is under way.
    #[cold]
    #[inline(never)]
    pub(super) fn carry_out(&mut self, bow: &Arc<Bow>, change: Change) {
        let wanted = match change {
            Change::None => return bow.reply(Ok(())),
            Change::Requested(state) => state,
            Change::Policy => State::Committed,
        };
        let had_failed = self.has_failed();
        let state = bow.report.lock().state;
        let result = if state.next() != Some(wanted) {
            pr_err!(
                "{}: state is {}, which takes {}\n",
                bow.device.name(),
                state.number(),
                match state {
                    State::Tracking => "1 only",
                    State::Checkpoint => "2 only",
                    State::Committed => "no other",
                }
            );
            Err(EINVAL)
        } else if wanted == State::Checkpoint {
            self.take_checkpoint(bow)
        } else {
            self.commit(bow)
        };
        if change == Change::Policy {
            self.gave_up(bow, result);
        }
        // Whoever is told looks at the status next.
        self.publish(bow);
        if result.is_ok() || self.has_failed() != had_failed {
            bow.events.raise();
        }
        if change != Change::Policy {
            bow.reply(result);
        }
    }

    fn has_failed(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.failed)
    }

    /// `on_full:commit` was carried out.
    fn gave_up(&mut self, bow: &Bow, result: Result) {
        match (result, &mut self.active) {
            (Ok(()), _) => pr_warn!(
                "{}: no free space is left for backups; the checkpoint was given up, the new \
                 contents stay\n",
                bow.device.name()
            ),
            (Err(error), Some(active)) => {
                pr_err!(
                    "{}: the checkpoint cannot be given up: error {}\n",
                    bow.device.name(),
                    error.to_errno()
                );
                // Those who wait for space now fail.
                active.failed = true;
            }
            (Err(_), None) => {}
        }
    }

    /// 0 → 1.
    #[inline(never)]
    fn take_checkpoint(&mut self, bow: &Arc<Bow>) -> Result {
        // All the memory, while nobody waits for us.
        let buffer = Buffer::new(2)?;
        let identity = Identity {
            uuid: time::random_uuid(),
            time: time::real_seconds(),
        };
        let memory = Memory::new(bow.block, identity, GFP_KERNEL)?;
        let place = KBox::new_uninit(GFP_KERNEL)?;
        let writable = KBox::new(WritableMap::new(bow.sectors, bow.block)?, GFP_KERNEL)?;
        let slots = Slot::all(GFP_KERNEL)?;
        let mut nodes = Nodes::new(Tracker::NODES, GFP_KERNEL)?;
        nodes.fill(GFP_KERNEL)?;

        bow.set_mode(Mode::Changing);
        bow.drain();
        let result = self.begin(bow, buffer, nodes, memory, slots, place);
        if result.is_ok() {
            bow.in_flight.replace(Some(writable));
            bow.set_mode(Mode::State(State::Checkpoint));
        } else {
            bow.set_mode(Mode::State(State::Tracking));
        }
        result
    }

    #[inline(never)]
    fn begin(
        &mut self,
        bow: &Bow,
        mut buffer: Buffer,
        mut nodes: Nodes,
        memory: Memory,
        slots: KVec<Slot>,
        place: KBox<MaybeUninit<Active>>,
    ) -> Result {
        let device = &bow.device;
        device.flush()?;
        device.read(0, &mut buffer, FIRST_BLOCK, bow.block.bytes() as usize)?;

        // For those who ask while the record is away.
        let report = bow.look();
        *bow.report.lock() = report;
        let tracker = bow.tracker.lock().take().ok_or(EINVAL)?;
        let ranges =
            tracker
                .space
                .into_ranges(bow.block, bow.block.sectors()..bow.sectors, &mut nodes)?;
        let checkpoint = Checkpoint::new(ranges, bow.block, bow.sectors, memory);
        let Ok(mut active) = place.write_init(Active::new(checkpoint, slots, buffer));
        match active.write_first_log(bow) {
            Ok(()) => {
                *bow.report.lock() = active.report();
                self.active = Some(active);
                Ok(())
            }
            Err(error) => {
                if error == ENOSPC {
                    pr_err!(
                        "{}: no free space for a checkpoint; run fstrim on the mounted file \
                         system first\n",
                        device.name()
                    );
                }
                let space = FreeSpace::from_ranges(active.checkpoint.take_ranges());
                *bow.tracker.lock() = Some(Tracker { space, nodes });
                Err(error)
            }
        }
    }

    /// 1 → 2.
    #[inline(never)]
    fn commit(&mut self, bow: &Arc<Bow>) -> Result {
        let Some(active) = &mut self.active else {
            return Err(EINVAL);
        };
        bow.set_mode(Mode::Changing);
        bow.drain();
        if let Err(error) = active.put_back_first_block(bow) {
            bow.set_mode(Mode::State(State::Checkpoint));
            return Err(error);
        }
        *bow.report.lock() = Report::of_committed();
        bow.set_mode(Mode::State(State::Committed));
        self.active = None;
        bow.in_flight.replace(None);
        Ok(())
    }
}

/// Makes page [`LOG`] the block whose first sector is `log`, and the others those of page
/// [`FIRST_BLOCK`].
fn fill_first_block(buffer: &mut Buffer, log: &Sector) -> Result {
    buffer.copy(FIRST_BLOCK, LOG)?;
    buffer.write(LOG, log)
}

impl Active {
    /// Saves the first block, which is in the buffer, and writes the log over it.
    fn write_first_log(&mut self, bow: &Bow) -> Result {
        let device = &bow.device;
        let bytes = bow.block.bytes() as usize;
        let Self {
            buffer,
            checkpoint,
            durable: log,
            ..
        } = self;
        let backup = checkpoint.place_first_block()?;
        checkpoint.begin(
            backup,
            buffer.crc32(entry_seed(0, bow.block.bytes()), FIRST_BLOCK, bytes),
        );
        checkpoint.log().encode(log, crc32);
        device.write(checkpoint.first_block(), buffer, FIRST_BLOCK, bytes)?;
        device.write(backup, buffer, FIRST_BLOCK, bytes)?;

        // This write decides.
        fill_first_block(buffer, log)?;
        if cfg!(bow_fault = "first_sector_not_last") {
            buffer.fill(LOG, log)?;
        }
        if let Err(error) = device.commit(0, buffer, LOG, bytes) {
            // Whether it did is not known. With the old contents back it did not.
            if device.commit(0, buffer, FIRST_BLOCK, bytes).is_err() {
                pr_err!(
                    "{}: the first block may hold a log of a checkpoint that failed; put it back \
                     with `bowctl restore` before the device is used again\n",
                    device.name()
                );
            }
            return Err(error);
        }

        buffer.fill(LOG, log)?;
        if device.commit(0, buffer, LOG, bytes).is_err() {
            pr_warn!(
                "{}: the rest of the first block cannot be hidden; do not mount the device below\n",
                device.name()
            );
        }
        Ok(())
    }

    /// Copies the live first block back over the log: the last of these writes decides.
    fn put_back_first_block(&mut self, bow: &Bow) -> Result {
        let device = &bow.device;
        let buffer = &mut self.buffer;
        let bytes = bow.block.bytes() as usize;
        device.read(self.checkpoint.first_block(), buffer, FIRST_BLOCK, bytes)?;
        if bytes > SECTOR_SIZE && !cfg!(bow_fault = "first_sector_not_last") {
            fill_first_block(buffer, &self.durable)?;
            device.commit(0, buffer, LOG, bytes)?;
        }
        device
            .commit(0, buffer, FIRST_BLOCK, bytes)
            .inspect_err(|_| {
                // Whether it is still a log is not known, so it must not be written as one; nor is
                // it known where the first block is, so nothing may be acknowledged for it.
                self.failed = true;
                self.first_block_unknown = true;
            })
    }
}
