// SPDX-License-Identifier: GPL-2.0

//! State 1: gathers deferred bios into batches, advances the batches, and ends them.

use super::{
    slot::{
        Slot,
        Step,
        LOG_PAGE, //
    },
    status::Report,
    tracking::Tracker,
    Bio,
    BioList,
    Bow,
    BATCHES,
    GRANTS,
    SLOTS, //
};
use crate::{
    abstractions::{
        block::{
            bio::{
                plugged,
                Operation,
                Status, //
            },
            buffer::Buffer,
        },
        time,
    },
    decisions::{
        batch::COPIES_MAX,
        checkpoint::{
            Checkpoint,
            Verdict, //
        },
        free_space::FreeSpace,
        log::{
            Sector,
            SECTOR_SIZE, //
        },
        ranges::Nodes,
        table::OnFull,
    },
};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::{
            Acquire,
            Relaxed, //
        },
        Arc, //
    },
};

/// A device in state 1.
pub(super) struct Active {
    pub(super) checkpoint: Checkpoint,
    slots: KVec<Slot>,
    /// Buffer for the end of the checkpoint, which must not wait for memory.
    pub(super) buffer: Buffer,
    /// Nodes for the record of free space after the end of the checkpoint.
    nodes: Nodes,
    /// Number of the slot of the oldest batch, which writes the log next.
    first: usize,
    /// First sector of the durable log block.
    pub(super) durable: Sector,
    /// Set when a log write, the first one too, or a commit has failed: it is not known what the first block of the
    /// device holds, so first writes fail from then on.
    pub(super) failed: bool,
    /// Set when a write has found no free space.
    pub(super) full: bool,
    /// Set when it is not known where the first block is, or what stands behind the log in its place: a write that
    /// would have moved it has failed, or one of a change of state. I/O to the first block fails from then on.
    pub(super) first_block_unknown: bool,
    /// Set during a drain, after which discarded space is free again.
    draining: bool,
    /// Number of consecutive bios that joined a batch, since the last one that was sent on at once.
    waits: usize,
    /// Time of the last warning that space ran out, in seconds since 1970; 0 before the first.
    warned: u64,
}

/// Seconds between warnings that space ran out.
const WARN_SECONDS: u64 = 10;

/// After this many consecutive bios that joined a batch, expect the next bio to need a batch too.
const WAITS_MANY: usize = 32;

/// Granted space that is taken back at a time, in sectors: enough for some batches.
const TAKE_BACK: u64 = 16384;

/// Outcome of looking at a bio.
enum Fate {
    /// The bio was sent on or ended.
    Gone,
    /// The bio is part of the open batch.
    Joined,
    /// The bio waits for a batch with room.
    Waits(Bio),
    /// The bio waits for a commit.
    Commits(Bio),
}

/// One pass over the deferred bios.
struct Gathering {
    /// Slot of the open batch.
    open: Option<usize>,
    /// Number of bios that may still join the batch.
    room: usize,
    /// Set when a bio was sent on or ended.
    gone: bool,
    /// Set when the policy is to commit.
    commits: bool,
}

/// Maximum number of waiting bios that are looked at when a batch begins: a quarter more than a batch has
/// room for, since some may be writable by now, or need only what others of the batch copy.
const LOOKS_MAX: usize = COPIES_MAX + COPIES_MAX / 4;

/// Outcome of a pass over the deferred bios.
pub(super) enum Gathered {
    /// No batch was begun.
    Nothing,
    /// A batch was begun, or there is more to look at.
    Some,
    /// The policy is to commit.
    Commit,
}

impl Active {
    /// Creates the state of a checkpoint that is not begun. Initialises in place, since the value is too
    /// large for the stack.
    pub(super) fn new(
        checkpoint: Checkpoint,
        slots: KVec<Slot>,
        buffer: Buffer,
        nodes: Nodes,
    ) -> impl Init<Self> {
        init!(Self {
            checkpoint,
            slots,
            buffer,
            nodes,
            first: 0,
            durable: [0; SECTOR_SIZE],
            failed: false,
            full: false,
            first_block_unknown: false,
            draining: false,
            waits: 0,
            warned: 0,
        })
    }

    /// Ends the checkpoint. Returns a record of the space that is free then. The value must not be used after this.
    pub(super) fn take_tracker(&mut self) -> Tracker {
        Tracker {
            space: FreeSpace::from_ranges(self.checkpoint.take_free_space()),
            nodes: self.nodes.take_all(),
        }
    }

    /// Has the slots write the log such that what stands after it remains: a logical block of the underlying device
    /// may be larger than a sector.
    ///
    /// # Errors
    ///
    /// `EINVAL` if a slot has no page for the log, which cannot happen.
    pub(super) fn cover_slots(&mut self) -> Result {
        let cover = self.checkpoint.cover();
        self.slots
            .iter_mut()
            .try_for_each(|slot| slot.buffer.write(LOG_PAGE, cover))
    }

    /// Returns whether no batch is in flight.
    pub(super) fn has_no_batch(&self) -> bool {
        self.slots.iter().all(Slot::is_idle)
    }

    /// Returns whether no batch is in flight, and no drain.
    pub(super) fn is_idle(&self) -> bool {
        !self.draining && self.has_no_batch()
    }

    /// Frees discarded space when its drain has completed, and begins another drain if one is due.
    pub(super) fn reclaim(&mut self, bow: &Arc<Bow>) {
        if self.draining && bow.drained.xchg(0, Acquire) != 0 {
            self.draining = false;
            self.checkpoint.reclaim();
            self.full = false;
        }
        if self.checkpoint.is_reclaim_due() {
            self.begin_reclaim(bow);
        }
    }

    /// Begins a drain for the discarded space, unless one is in progress. Returns whether a drain is in
    /// progress, so that the caller may wait for space.
    fn begin_reclaim(&mut self, bow: &Arc<Bow>) -> bool {
        if !self.draining && self.checkpoint.begin_reclaim() {
            self.draining = true;
            bow.begin_drain();
        }
        self.draining
    }

    /// Returns the slot for the next batch, if one is idle. Batches are begun, and their logs written, in the
    /// order of the slots.
    fn idle_slot(&self) -> Option<usize> {
        (0..BATCHES)
            .map(|turn| (self.first + turn) % BATCHES)
            .find(|&index| self.slots.get(index).is_some_and(Slot::is_idle))
    }

    /// Returns the number of bios in the batches in flight, which is also how many bios are enough for the
    /// next batch: each batch costs a log write, so a small one waits and grows meanwhile. The next batch
    /// then takes half of all, so that one half's work fills the time that the other waits for the device.
    /// Were the halves unequal, the smaller one would have to wait for the larger one.
    pub(super) fn enough(&self) -> usize {
        let batches = self.slots.iter().take(BATCHES);
        batches.map(|slot| slot.bios.len()).sum()
    }

    /// Returns the number of bios that wait for the end of a batch.
    pub(super) fn joined(&self) -> usize {
        self.slots.iter().map(|slot| slot.bios.len()).sum()
    }

    /// Returns how many bios beside the `waiting` ones are worth waking up for: one, since it may be writable
    /// and should not wait then; but if the last ones all needed a batch, as many as are enough for a batch.
    pub(super) fn awaited(&self, waiting: usize) -> usize {
        if self.waits < WAITS_MANY {
            1
        } else if self.idle_slot().is_none() {
            usize::MAX
        } else {
            self.enough().saturating_sub(waiting).max(1)
        }
    }

    /// Has status show the checkpoint as it is now. To be called before what has changed it ends: who waits for that
    /// may look at the status next.
    pub(super) fn publish(&self, bow: &Bow) {
        let report = Report::of_checkpoint(&self.checkpoint, self.full, self.failed);
        *bow.report.lock() = report;
    }

    /// Advances all batches as far as possible without waiting. Bios that need another batch are put first in
    /// `waiting`.
    pub(super) fn advance(&mut self, bow: &Arc<Bow>, waiting: &mut BioList) {
        let mut again = BioList::new();
        loop {
            plugged(|| while self.step(bow, &mut again) {});
            // The I/O has been started, so there is time for checksums.
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_to_be_appended()) else {
                break;
            };
            plugged(|| slot.append(bow, &mut self.checkpoint));
        }
        again.append(waiting);
        waiting.append(&mut again);
    }

    /// Advances one batch by a step. Returns whether there was one that could advance. Bios that need another
    /// batch are put into `again`.
    fn step(&mut self, bow: &Arc<Bow>, again: &mut BioList) -> bool {
        let batches = || self.slots.iter().take(BATCHES);
        let grants = self.slots.get(GRANTS);
        let grants_are_first = !batches().any(Slot::is_logging);
        let grants_are_next = !batches().any(Slot::is_writing);
        // Grants come before batches that have not begun to append, since they have no copies to wait for.
        let mut is_next = !grants.is_some_and(|slot| slot.is_reading() || slot.is_writing());
        let mut is_first = !grants.is_some_and(Slot::is_logging);
        for turn in 0..SLOTS {
            let (index, first, next) = match turn {
                GRANTS => (GRANTS, grants_are_first, grants_are_next),
                _ => ((self.first + turn) % BATCHES, is_first, is_next),
            };
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            let step = if self.failed && !slot.is_idle() {
                slot.step_after_failure(bow)
            } else {
                slot.step(bow, &mut self.checkpoint, first, next)
            };
            is_first = false;
            is_next &= slot.is_logging();
            let (logged, status) = match step {
                Step::Waiting => continue,
                Step::Moved => return true,
                Step::Ended { logged } => (logged, None),
                Step::LogFailed(status) => (false, Some(status)),
            };
            if logged {
                self.durable = *slot.log();
            }
            match status {
                Some(status) => self.log_failed(bow, index, status),
                None => self.end_bios(bow, index, again),
            }
            if index != GRANTS {
                self.first = (index + 1) % BATCHES;
            }
            return true;
        }
        false
    }

    /// Sends on or fails the bios of slot `index`, whose batch has ended. Bios that need another batch are
    /// put into `again`.
    fn end_bios(&mut self, bow: &Arc<Bow>, index: usize, again: &mut BioList) {
        self.publish(bow);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let mut bios = core::mem::replace(&mut slot.bios, BioList::new());
        while let Some(bio) = bios.pop() {
            let span = bio.span();
            match slot.error(bow, &self.checkpoint.blocks_of(&span)) {
                Some(status) => bio.end(status),
                None => {
                    if let Some(bio) = bow.submit_if_writable(bio) {
                        again.push(bio);
                    }
                }
            }
        }
        slot.clear(&mut self.checkpoint);
    }

    /// Fails all first writes from now on, since a log write has failed.
    pub(super) fn fail(&mut self, bow: &Arc<Bow>) {
        if core::mem::replace(&mut self.failed, true) {
            return;
        }
        pr_err!(
            "{}: the log cannot be written; writes to unchanged blocks fail from now on, rollback stays \
             possible\n",
            bow.device.name()
        );
        self.publish(bow);
        bow.announce();
    }

    /// Fails the bios of slot `index` after a log write has failed, and all first writes from now on. The log
    /// in memory may differ from the one on the device; `durable` is the last one known to be written.
    fn log_failed(&mut self, bow: &Arc<Bow>, index: usize, status: Status) {
        self.fail(bow);
        if let Some(slot) = self.slots.get_mut(index) {
            // A batch that was not writing the log block has not changed what the device says.
            self.first_block_unknown |= slot.is_logging() && slot.moves_first_block();
            while let Some(bio) = slot.bios.pop() {
                bio.end(status);
            }
            slot.drop_batch();
        }
    }

    /// Looks at deferred bios: sends on those that need no backup, and begins a batch of those that do. Looks
    /// at all `fresh` bios, and when a batch begins, at the first of the `waiting` ones, or at all if these wait for
    /// space.
    pub(super) fn gather(
        &mut self,
        bow: &Arc<Bow>,
        waiting: &mut BioList,
        fresh: &mut BioList,
    ) -> Gathered {
        let in_batches = self.enough();
        let deferred = waiting.len() + fresh.len();
        let open = self.idle_slot().filter(|_| deferred >= in_batches);
        let mut gathering = Gathering {
            open,
            room: match in_batches {
                0 => deferred,
                others => (others + deferred).div_ceil(2),
            },
            gone: false,
            commits: false,
        };
        let mut looks = 0;
        if let Some(slot) = open.and_then(|index| self.slots.get_mut(index)) {
            slot.open(bow, &mut self.checkpoint, gathering.room);
            looks = LOOKS_MAX;
        }
        self.checkpoint.replenish(GFP_NOWAIT | __GFP_NOWARN);
        let mut kept = self.look_at(bow, waiting, looks, &mut gathering);
        if looks > 0 && kept.len() == looks && (self.full || self.draining) {
            // All of them may wait for space. Those behind may need none any more.
            kept.append(&mut self.look_at(bow, waiting, usize::MAX, &mut gathering));
        }
        if !waiting.is_empty() {
            // The bios that still wait came before the fresh ones, so these must not join.
            gathering.room = 0;
        }
        let mut late = self.look_at(bow, fresh, usize::MAX, &mut gathering);
        kept.append(waiting);
        kept.append(&mut late);
        kept.append(fresh);
        waiting.append(&mut kept);

        let mut has_begun = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.is_open()) {
            slot.close(bow, &mut self.checkpoint);
            has_begun |= !slot.is_idle();
        }
        match (gathering.commits, has_begun) {
            (true, _) => Gathered::Commit,
            (false, true) => Gathered::Some,
            // Those that still wait were not all looked at, and nothing may be in flight that would wake the worker.
            (false, false) if open.is_some() && gathering.gone && !waiting.is_empty() => {
                Gathered::Some
            }
            (false, false) => Gathered::Nothing,
        }
    }

    /// Looks at the first `count` bios of `list`. Returns the bios that have to wait.
    fn look_at(
        &mut self,
        bow: &Arc<Bow>,
        list: &mut BioList,
        count: usize,
        gathering: &mut Gathering,
    ) -> BioList {
        let mut kept = BioList::new();
        for _ in 0..count.min(list.len()) {
            if gathering.commits {
                break;
            }
            let Some(bio) = list.pop() else {
                break;
            };
            match self.decide(bow, bio, gathering.open.filter(|_| gathering.room > 0)) {
                Fate::Gone => {
                    self.waits = 0;
                    gathering.gone = true;
                }
                Fate::Joined => {
                    self.waits += 1;
                    gathering.room = gathering.room.saturating_sub(1);
                }
                Fate::Waits(bio) => kept.push(bio),
                Fate::Commits(bio) => {
                    kept.push(bio);
                    gathering.commits = true;
                }
            }
        }
        kept
    }

    /// Decides about one bio. `open` is the slot of the open batch.
    fn decide(&mut self, bow: &Arc<Bow>, bio: Bio, open: Option<usize>) -> Fate {
        let span = bio.span();
        if bio.operation() == Operation::Discard {
            // The discard is not sent on, so nothing changes on the device and nothing needs a backup.
            self.checkpoint
                .discard(&span, |freed| bow.mark_unwritable(&freed));
            self.publish(bow);
            bio.end(Status::OK);
            return Fate::Gone;
        }
        if span.start < bow.block.sectors() {
            if self.first_block_unknown {
                bio.end(Status::IO_ERROR);
            } else if self.slots.iter().any(Slot::moves_first_block) {
                return Fate::Waits(bio);
            } else {
                bow.submit_to_first_block(bio, self.checkpoint.first_block());
            }
            return Fate::Gone;
        }
        if bio.operation() != Operation::Write {
            bow.submit(bio, bow.in_flight.enter());
            return Fate::Gone;
        }
        // Copies are of no use once the log cannot be written.
        let joins = match open {
            _ if self.failed => None,
            Some(index) => Some(index),
            None => self.open_grants(bow),
        };
        let mut verdict = self.prepare(&span, joins);
        if verdict == Verdict::NoSpace && self.take_back(bow) {
            verdict = self.prepare(&span, joins);
        }
        match verdict {
            Verdict::Writable => {
                bow.submit_writable(bio);
                Fate::Gone
            }
            _ if self.failed => {
                bio.end(Status::IO_ERROR);
                Fate::Gone
            }
            Verdict::Later => Fate::Waits(bio),
            Verdict::Joined => match joins.and_then(|index| self.slots.get_mut(index)) {
                // A write that needs no grant waits for the copies of other batches, not for this one.
                Some(slot) if open.is_some() || slot.batch.entries() > 0 => {
                    slot.bios.push(bio);
                    Fate::Joined
                }
                _ => Fate::Waits(bio),
            },
            // Writes from before the discards must have completed before the discarded space is used.
            Verdict::NoSpace if self.begin_reclaim(bow) => Fate::Waits(bio),
            Verdict::NoSpace => self.out_of_space(bow, bio),
        }
    }

    /// Calls [`Checkpoint::prepare`] with the batch of slot `joins`.
    fn prepare(&mut self, span: &Range<u64>, joins: Option<usize>) -> Verdict {
        let slot = joins.and_then(|index| self.slots.get_mut(index));
        self.checkpoint
            .prepare(span, slot.map(|slot| &mut slot.batch))
    }

    /// Returns the slot of the batch of grants, if writes may join that.
    fn open_grants(&mut self, bow: &Bow) -> Option<usize> {
        let slot = self.slots.get_mut(GRANTS)?;
        if slot.is_idle() {
            slot.open(bow, &mut self.checkpoint, 0);
        }
        slot.is_open().then_some(GRANTS)
    }

    /// Takes back some of the space that was granted and that the file system has not written to. Returns whether
    /// there was any.
    #[cold]
    fn take_back(&mut self, bow: &Bow) -> bool {
        if bow.granted.load(Relaxed) == 0 {
            return false;
        }
        let checkpoint = &mut self.checkpoint;
        let mut sectors = 0;
        let mut number = 0;
        while let Some(span) = checkpoint.granted_span(number) {
            number += 1;
            bow.take_back(&span, |taken| {
                let length = taken.end.saturating_sub(taken.start);
                let is_taken = sectors < TAKE_BACK && checkpoint.take_back(taken);
                sectors += if is_taken { length } else { 0 };
                is_taken
            });
        }
        self.full &= sectors == 0;
        sectors > 0
    }

    /// Warns that space ran out, at most every [`WARN_SECONDS`]: a discard may give a little back each time.
    fn warn_of_full(&mut self, bow: &Bow, policy: OnFull) {
        let now = time::real_seconds();
        if now.abs_diff(self.warned) < WARN_SECONDS {
            return;
        }
        self.warned = now;
        pr_warn!(
            "{}: no free space is left for backups; writes to unchanged blocks {}, rollback stays possible\n",
            bow.device.name(),
            match policy {
                OnFull::Wait => "wait",
                _ => "fail",
            }
        );
    }

    /// Applies the policy to `bio`, for whose backup there is no free space.
    fn out_of_space(&mut self, bow: &Arc<Bow>, bio: Bio) -> Fate {
        let is_first = !core::mem::replace(&mut self.full, true);
        let policy = bow.on_full();
        if policy == OnFull::Commit {
            return Fate::Commits(bio);
        }
        if is_first {
            self.warn_of_full(bow, policy);
            self.publish(bow);
            bow.announce();
        }
        // A suspend waits for all bios, and nothing can give space meanwhile.
        if policy == OnFull::Wait && bow.suspending.load(Relaxed) == 0 {
            return Fate::Waits(bio);
        }
        bio.end(Status::NO_SPACE);
        Fate::Gone
    }
}
