// SPDX-License-Identifier: GPL-2.0

//! Changes of state: 0 → 1 takes the checkpoint, 1 → 2 commits, 2 → 0 makes ready for the next checkpoint.
//!
//! States 0 and 2 differ in name only: the record of free space is kept in both, and begins at a commit with
//! what is free then.
//!
//! The worker carries out the other two changes while every bio that could tell the difference is deferred,
//! after those in flight have completed ([`Mode::Changing`] and a drain). One write decides each change: that
//! of the device's first sector, which a device writes wholly or not at all. A block may have several
//! sectors. So the other sectors of the first block are always durable *before* the first sector that makes
//! them count:
//!
//! - 0 → 1: the log's first sector is written together with the old contents of the other sectors. A power
//!   cut before that leaves the old block; a power cut after it leaves a log, whose other sectors mean
//!   nothing. Then these are overwritten with what hides a file system's superblock from anyone who would
//!   mount the underlying device, but not from a boot loader ([`cover`](crate::decisions::cover)).
//! - 1 → 2: the contents of the relocated first block are written to the other sectors while the first
//!   sector is still the log. Then the whole block is written, of which only the first sector changes.
//!
//! Of a write that failed nobody knows whether it took effect. Where that is so of a write that decides, and of the
//! one that would take it back, the device stays in state 1 and changes nothing that only one of the two would have
//! ([`Active::first_block_unknown`]): what is on the device is then right either way.

use super::{
    active::Active,
    free_map_io::FreeMapIo,
    slot::Slot,
    status::Report,
    tracking::Tracker,
    worker::{
        Change,
        Worker, //
    },
    writable_map::WritableMap,
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
        begin::Memory,
        checkpoint::Checkpoint,
        log::{
            entry_seed,
            Boot,
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
        atomic::ordering::Relaxed,
        Arc,
        MutexGuard, //
    },
};

/// Page of the buffer that holds the first block of the file system.
const FIRST_BLOCK: usize = 0;
/// Page of the buffer that the log block is written from.
const LOG: usize = 1;

/// Way by which a change of state was requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A message of device mapper, which keeps the table live until the message has been answered.
    Message,
    /// The file in sysfs, which device mapper knows nothing of.
    Sysfs,
}

impl Bow {
    /// Changes the state on a user's behalf, and waits until that is done. Process context; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` if `state` is not the next state; `ENOSPC` if there is no free space for a checkpoint;
    /// `ENOMEM`; `EAGAIN` from sysfs while the device is suspended; errors of the underlying device.
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

    /// Records in the log what is to be done at the next boot, on a user's behalf, and waits until that is durable.
    /// Process context; sleeps.
    ///
    /// # Errors
    ///
    /// `EINVAL` except in state 1; errors of the underlying device.
    pub(super) fn set_boot(self: &Arc<Self>, boot: Boot) -> Result {
        let requests = self.requests.lock();
        self.request(&requests, Change::Log(Some(boot)))
    }

    /// Makes the worker carry out `change` when no batch is in flight, and waits for the result. The caller
    /// holds the lock of [`Bow::requests`]. Process context; sleeps.
    ///
    /// # Errors
    ///
    /// Those of the change; none if it is [`Change::None`].
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

    /// Passes the result of a request to the requester.
    fn reply(&self, result: Result) {
        *self.answer.lock() = Some(result);
        self.answered.notify_all();
    }

    /// Returns the state as users see it. During a change, this is the old state until the change is decided.
    pub(super) fn state(&self) -> State {
        match self.mode() {
            Mode::State(state) => state,
            Mode::Changing => self.report.lock().state,
        }
    }
}

impl Worker {
    /// Carries out a change of state. No batch is in flight. Sleeps.
    #[cold]
    #[inline(never)]
    pub(super) fn carry_out(&mut self, bow: &Arc<Bow>, change: Change) {
        let wanted = match change {
            Change::None => return bow.reply(Ok(())),
            Change::Log(boot) => {
                let state = bow.report.lock().state;
                let result = match &mut self.active {
                    Some(active) => active.write_log_again(bow, boot),
                    None if state == State::Tracking => {
                        self.boot = boot;
                        Ok(())
                    }
                    None => {
                        pr_err!(
                            "{}: has no checkpoint to restore at boot\n",
                            bow.device.name()
                        );
                        Err(EINVAL)
                    }
                };
                return bow.reply(result);
            }
            Change::Requested(state) => state,
            Change::Policy => State::Committed,
        };
        let had_failed = self.has_failed();
        let state = bow.report.lock().state;
        let result = if state.next() != wanted {
            pr_err!(
                "{}: state is {}, which takes {}\n",
                bow.device.name(),
                state.number(),
                match state {
                    State::Tracking => "1 only",
                    State::Checkpoint => "2 only",
                    State::Committed => "0 only",
                }
            );
            Err(EINVAL)
        } else {
            match wanted {
                State::Checkpoint => {
                    let result = self.take_checkpoint(bow);
                    // For one attempt, however that ended.
                    self.boot = None;
                    result
                }
                State::Committed => self.commit(bow),
                State::Tracking => {
                    // The record of free space has been kept all along.
                    *bow.report.lock() = Report::of_state(State::Tracking);
                    bow.set_mode(Mode::State(State::Tracking));
                    Ok(())
                }
            }
        };
        if change == Change::Policy {
            self.finish_policy_commit(bow, result);
        }
        // The requester looks at the status next, so it is published first.
        self.publish(bow);
        if result.is_ok() || self.has_failed() != had_failed {
            bow.announce();
        }
        if change != Change::Policy {
            bow.reply(result);
        }
    }

    /// Returns whether a log write or a commit has failed.
    fn has_failed(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.failed)
    }

    /// Logs the result of a commit because of `on_full:commit`. If it failed, first writes fail from now on.
    fn finish_policy_commit(&mut self, bow: &Bow, result: Result) {
        match (result, &mut self.active) {
            (Ok(()), _) => pr_warn!(
                "{}: no free space is left for backups; the checkpoint was committed, the new \
                 contents stay\n",
                bow.device.name()
            ),
            (Err(error), Some(active)) => {
                pr_err!(
                    "{}: the checkpoint cannot be committed: error {}\n",
                    bow.device.name(),
                    error.to_errno()
                );
                // The writes that wait for space must not wait for ever: with this they fail.
                active.failed = true;
            }
            (Err(_), None) => {}
        }
    }

    /// Takes the checkpoint: 0 → 1.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or those of [`begin`](Self::begin). The device is then in state 0 as before, unless there is a
    /// checkpoint whose first log may not have been written.
    #[inline(never)]
    fn take_checkpoint(&mut self, bow: &Arc<Bow>) -> Result {
        // Allocates all the memory while no bio is deferred yet.
        let buffer = Buffer::new(2)?;
        let identity = Identity {
            uuid: time::random_uuid(),
            time: time::real_seconds(),
        };
        let memory = Memory::new(bow.block, identity, GFP_KERNEL)?;
        let map = FreeMapIo::new(bow.block)?;
        let place = KBox::new_uninit(GFP_KERNEL)?;
        let writable = KBox::new(WritableMap::new(bow.sectors, bow.block)?, GFP_KERNEL)?;
        let slots = Slot::all(GFP_KERNEL)?;
        let mut nodes = Nodes::new(Tracker::NODES, GFP_KERNEL)?;
        nodes.fill(GFP_KERNEL)?;

        bow.set_mode(Mode::Changing);
        bow.drain();
        bow.is_low_told.store(0, Relaxed);
        let result = self.begin(bow, buffer, nodes, memory, map, slots, place);
        if self.active.is_some() {
            bow.in_flight.replace(Some(writable));
            bow.set_mode(Mode::State(State::Checkpoint));
        } else {
            bow.set_mode(Mode::State(State::Tracking));
        }
        result
    }

    /// Makes the range tree from the record of free space and writes the first log. Writes in flight have been
    /// drained, and every bio that could tell the difference is deferred.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too few free blocks; errors of the underlying device.
    #[inline(never)]
    #[expect(
        clippy::too_many_arguments,
        reason = "all the memory is allocated before"
    )]
    fn begin(
        &mut self,
        bow: &Bow,
        mut buffer: Buffer,
        mut nodes: Nodes,
        memory: Memory,
        map: FreeMapIo,
        slots: KVec<Slot>,
        place: KBox<MaybeUninit<Active>>,
    ) -> Result {
        let device = &bow.device;
        device.read(0, &mut buffer, FIRST_BLOCK, bow.block.bytes() as usize)?;

        // For status while the record is taken away.
        let report = bow.look();
        *bow.report.lock() = report;
        let tracker = bow.tracker.lock().take().ok_or(EINVAL)?;
        let ranges =
            tracker
                .space
                .into_ranges(bow.block, bow.block.sectors()..bow.sectors, &mut nodes)?;
        let mut checkpoint = Checkpoint::new(ranges, bow.block, bow.sectors, memory);
        checkpoint.set_cover(|block| buffer.read(FIRST_BLOCK, block))?;
        if let Some(boot) = self.boot {
            checkpoint.set_boot(boot);
        }
        let Ok(mut active) = place.write_init(Active::new(checkpoint, slots, buffer, nodes));
        match active.write_first_log(bow, map) {
            Ok(()) => {
                active.publish(bow);
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
                if active.first_block_unknown {
                    active.publish(bow);
                    self.active = Some(active);
                } else {
                    *bow.tracker.lock() = Some(active.take_tracker());
                }
                Err(error)
            }
        }
    }

    /// Commits: 1 → 2.
    ///
    /// # Errors
    ///
    /// Those of the underlying device. The device is then still in state 1.
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
        *bow.tracker.lock() = Some(active.take_tracker());
        self.active = None;
        // Before there are writes of state 2, which this would wait for.
        bow.in_flight.replace(None);
        bow.granted.store(0, Relaxed);
        *bow.report.lock() = Report::of_state(State::Committed);
        bow.set_mode(Mode::State(State::Committed));
        Ok(())
    }
}

/// Fills page [`LOG`] with a block whose first sector is `log` and whose other sectors are those of page
/// [`FIRST_BLOCK`].
fn fill_first_block(buffer: &mut Buffer, log: &Sector) -> Result {
    buffer.copy(FIRST_BLOCK, LOG)?;
    buffer.write(LOG, log)
}

impl Active {
    /// Saves the first block, which is in the buffer, writes the free map, and writes the log over the first
    /// block.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too few free blocks; errors of the underlying device.
    #[inline(never)]
    fn write_first_log(&mut self, bow: &Bow, map: FreeMapIo) -> Result {
        let device = &bow.device;
        let bytes = bow.block.bytes() as usize;
        let Self {
            buffer,
            checkpoint,
            durable: log,
            ..
        } = self;
        let backup = checkpoint.place_first_block()?;
        map.write(checkpoint, device)?;
        checkpoint.begin(
            backup,
            buffer.crc32(entry_seed(0, bow.block.bytes()), FIRST_BLOCK, bytes),
        );
        checkpoint.log().encode(log, crc32);
        device.write(checkpoint.first_block(), buffer, FIRST_BLOCK, bytes)?;
        // A device that cannot flush is found out while it has no log.
        device.commit(backup, buffer, FIRST_BLOCK, bytes)?;

        // This write decides.
        fill_first_block(buffer, log)?;
        if let Err(error) = device.commit(0, buffer, LOG, bytes) {
            // It is not known whether the write took effect. With the old contents back it has not.
            if device.commit(0, buffer, FIRST_BLOCK, bytes).is_err() {
                self.lose_first_block(bow);
            }
            return Err(error);
        }

        buffer.write(LOG, checkpoint.cover())?;
        buffer.write(LOG, log)?;
        if device.commit(0, buffer, LOG, bytes).is_err() {
            pr_warn!(
                "{}: the rest of the first block cannot be hidden; do not mount the underlying device\n",
                device.name()
            );
        }
        self.cover_slots()
    }

    /// Writes the log block again, with `boot` if that changes. No batch is in flight.
    ///
    /// # Errors
    ///
    /// `EIO` if a log write has failed before; errors of the underlying device, after which first writes fail.
    fn write_log_again(&mut self, bow: &Arc<Bow>, boot: Option<Boot>) -> Result {
        if self.failed {
            return Err(EIO);
        }
        if let Some(boot) = boot {
            self.checkpoint.set_boot(boot);
        }
        self.checkpoint.log().encode(&mut self.durable, crc32);
        // A power cut in a change of state may have left contents of the file system behind the log.
        self.write_covered_log(bow).inspect_err(|_| self.fail(bow))
    }

    /// Writes the log over the first block, and the cover after it. No batch is in flight.
    ///
    /// # Errors
    ///
    /// Those of the underlying device.
    fn write_covered_log(&mut self, bow: &Bow) -> Result {
        self.buffer.write(LOG, self.checkpoint.cover())?;
        self.buffer.write(LOG, &self.durable)?;
        bow.device
            .commit(0, &self.buffer, LOG, bow.block.bytes() as usize)
    }

    /// Has writes to unchanged blocks and I/O to the first block fail from now on, since nobody knows what is in the
    /// place of the first block.
    fn lose_first_block(&mut self, bow: &Bow) {
        pr_err!(
            "{}: the first block cannot be written; writes to unchanged blocks and I/O to the first block fail until \
             there is a commit or a reboot\n",
            bow.device.name()
        );
        self.failed = true;
        self.first_block_unknown = true;
    }

    /// Copies the relocated first block back over the log. The last of these writes decides.
    ///
    /// # Errors
    ///
    /// Those of the underlying device.
    fn put_back_first_block(&mut self, bow: &Bow) -> Result {
        let device = &bow.device;
        let buffer = &mut self.buffer;
        let bytes = bow.block.bytes() as usize;
        device.read(self.checkpoint.first_block(), buffer, FIRST_BLOCK, bytes)?;
        if bytes > SECTOR_SIZE {
            fill_first_block(buffer, &self.durable)?;
            if let Err(error) = device.commit(0, buffer, LOG, bytes) {
                // The superblock may be there now for everybody to see, while it goes on changing elsewhere.
                if self.write_covered_log(bow).is_err() {
                    self.lose_first_block(bow);
                }
                return Err(error);
            }
        }
        device
            .commit(0, buffer, FIRST_BLOCK, bytes)
            // It is not known whether the first block is still a log, so no log may be written to it; nor is the place
            // of the first block known, so no I/O to it may be acknowledged.
            .inspect_err(|_| self.lose_first_block(bow))
    }
}
