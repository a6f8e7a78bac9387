// SPDX-License-Identifier: GPL-2.0

//! State 1: gathers deferred bios into batches, advances these, and ends them.

use super::{
    slot::{
        Slot,
        Step, //
    },
    status::Report,
    Bio,
    BioList,
    Bow,
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
        log::{
            Sector,
            SECTOR_SIZE, //
        },
        table::OnFull,
    },
};
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::Acquire,
        Arc, //
    },
};

/// State 1.
pub(super) struct Active {
    pub(super) checkpoint: Checkpoint,
    slots: KVec<Slot>,
    /// What the end of the checkpoint will need, for it must not wait for memory.
    pub(super) buffer: Buffer,
    /// Number of the slot of the oldest batch, which is the next to write the log.
    first: usize,
    /// The first sector of the log block that is durable.
    pub(super) durable: Sector,
    /// The log could not be written, and what is on the device is not known for certain: no first
    /// write is possible any more.
    pub(super) failed: bool,
    /// A write found no space.
    pub(super) full: bool,
    /// A write that failed would have moved the live first block, so it is not certain where it is.
    pub(super) first_block_unknown: bool,
    /// Writes in flight are waited for, so that what was discarded before can be free again.
    draining: bool,
    /// Bios that had to wait, since the last that had not to.
    waits: usize,
    /// The time of the last warning that space ran out, in seconds since the epoch; 0 before the first.
    warned: u64,
}

/// Seconds between warnings that space ran out.
const WARN_SECONDS: u64 = 10;

/// So many bios in a row that had to wait, and the next one will have to as well.
const WAITS_MANY: usize = 32;

/// What became of a bio.
enum Fate {
    /// It went on its way.
    Gone,
    /// It is part of the batch that is open.
    Joined,
    /// It waits for a batch with room.
    Waits(Bio),
    /// It waits for the checkpoint to be given up.
    Commits(Bio),
}

/// A look at the deferred bios.
struct Gathering {
    /// The slot whose batch takes up writes.
    open: Option<usize>,
    /// Bios that may still join the batch.
    room: usize,
    /// Set when the policy is to give up the checkpoint.
    commits: bool,
}

/// The most bios that have waited and are looked at when a batch begins. It is a quarter more than have
/// room, for others may need nothing any more, or what joined before them.
const LOOKS_MAX: usize = COPIES_MAX + COPIES_MAX / 4;

/// What became of the held bios.
pub(super) enum Gathered {
    /// There were none that could go on.
    Nothing,
    /// A batch was begun.
    Some,
    /// The policy is to give up the checkpoint.
    Commit,
}

impl Active {
    /// Makes it in the memory that it is to have: it is large for the stack.
    pub(super) fn new(
        checkpoint: Checkpoint,
        slots: KVec<Slot>,
        buffer: Buffer,
    ) -> impl Init<Self> {
        init!(Self {
            checkpoint,
            slots,
            buffer,
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

    /// Returns whether no batch is under way, and no drain.
    pub(super) fn is_idle(&self) -> bool {
        !self.draining && self.slots.iter().all(Slot::is_idle)
    }

    /// Takes back what was discarded, when the writes that were in flight have ended; and begins to wait for
    /// those that are, if there is a reason to.
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

    /// Begins to wait for the writes in flight, unless it does already. Returns whether there is discarded
    /// space to wait for.
    fn begin_reclaim(&mut self, bow: &Arc<Bow>) -> bool {
        if !self.draining && self.checkpoint.begin_reclaim() {
            self.draining = true;
            bow.begin_drain();
        }
        self.draining
    }

    /// The slot that the next batch can be begun in, if one can. Batches are begun in the order of the
    /// slots, and their logs written in it.
    fn idle_slot(&self) -> Option<usize> {
        (0..SLOTS)
            .map(|turn| (self.first + turn) % SLOTS)
            .find(|&index| self.slots.get(index).is_some_and(Slot::is_idle))
    }

    /// How many bios make a batch: each costs a log write, so a small one waits and grows while more
    /// are under way. It then takes half of all, so that one half's work fills the time that the other
    /// waits for the device; were they unequal, the smaller would have to wait for the larger to end.
    pub(super) fn enough(&self) -> usize {
        self.slots.iter().map(|slot| slot.bios.len()).sum()
    }

    /// Returns how many bios beside those that wait are worth waking up for. One may need nothing, and should
    /// not wait then; but if the last ones all had to wait, as many as make a batch.
    pub(super) fn awaited(&self, waiting: usize) -> usize {
        if self.waits < WAITS_MANY {
            1
        } else if self.idle_slot().is_none() {
            usize::MAX
        } else {
            self.enough().saturating_sub(waiting).max(1)
        }
    }

    pub(super) fn report(&self) -> Report {
        Report::of_checkpoint(&self.checkpoint, self.full, self.failed)
    }

    /// Takes all batches as far as they can go. Bios whose batch has ended, and that need more, come first
    /// in `waiting`.
    pub(super) fn advance(&mut self, bow: &Arc<Bow>, waiting: &mut BioList) {
        let mut again = BioList::new();
        loop {
            plugged(|| while self.step(bow, &mut again) {});
            // What was started is on its way, and there is time for checksums.
            let Some(slot) = self.slots.iter_mut().find(|slot| slot.is_to_be_appended()) else {
                break;
            };
            plugged(|| slot.append(bow, &mut self.checkpoint));
        }
        again.append(waiting);
        waiting.append(&mut again);
    }

    /// Takes one batch further. Returns whether there was one that could go on.
    fn step(&mut self, bow: &Arc<Bow>, again: &mut BioList) -> bool {
        let mut is_next = true;
        for turn in 0..SLOTS {
            let index = (self.first + turn) % SLOTS;
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            let step = if self.failed && !slot.is_idle() {
                slot.step_after_failure(bow)
            } else {
                slot.step(bow, &mut self.checkpoint, turn == 0, is_next)
            };
            is_next &= slot.is_logging();
            match step {
                Step::Waiting => continue,
                Step::Moved => {}
                Step::Ended { logged } => {
                    if logged {
                        self.durable = *slot.log();
                    }
                    self.end_bios(bow, index, again);
                    self.first = (index + 1) % SLOTS;
                }
                Step::LogFailed(status) => {
                    self.log_failed(bow, index, status);
                    self.first = (index + 1) % SLOTS;
                }
            }
            return true;
        }
        false
    }

    /// Sends on the bios of slot `index`, whose batch has ended. Those that need more are put into `again`.
    fn end_bios(&mut self, bow: &Arc<Bow>, index: usize, again: &mut BioList) {
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

    /// The log write of slot `index` failed: its bios fail, and so does every first write from now
    /// on. The log in memory is not the device's any more; `durable` is.
    fn log_failed(&mut self, bow: &Arc<Bow>, index: usize, status: Status) {
        if !self.failed {
            self.failed = true;
            pr_err!(
                "{}: the log cannot be written; writes to unchanged blocks fail from now on, \
                 rollback stays possible\n",
                bow.device.name()
            );
            *bow.report.lock() = self.report();
            bow.events.raise();
        }
        if let Some(slot) = self.slots.get_mut(index) {
            // One that was not writing the log block has left it as it was.
            self.first_block_unknown |= slot.is_logging() && slot.moves_first_block();
            while let Some(bio) = slot.bios.pop() {
                bio.end(status);
            }
            slot.drop_batch();
        }
    }

    /// Looks at deferred bios: sends out those that need nothing, and begins a batch of those that need
    /// copies. Looks at all that are fresh, and when a batch begins, at the first of those that wait.
    pub(super) fn gather(
        &mut self,
        bow: &Arc<Bow>,
        waiting: &mut BioList,
        fresh: &mut BioList,
    ) -> Gathered {
        let under_way = self.enough();
        let deferred = waiting.len() + fresh.len();
        let open = self.idle_slot().filter(|_| deferred >= under_way);
        let mut gathering = Gathering {
            open,
            room: match under_way {
                0 => deferred,
                others => (others + deferred).div_ceil(2),
            },
            commits: false,
        };
        let mut looks = 0;
        if let Some(slot) = open.and_then(|index| self.slots.get_mut(index)) {
            slot.open(bow, &mut self.checkpoint, gathering.room);
            looks = LOOKS_MAX;
        }
        self.checkpoint.replenish(GFP_NOWAIT | __GFP_NOWARN);
        let mut kept = self.look_at(bow, waiting, looks, &mut gathering);
        if !waiting.is_empty() {
            // Those that nobody has looked at came before.
            gathering.room = 0;
        }
        let mut late = self.look_at(bow, fresh, usize::MAX, &mut gathering);
        kept.append(waiting);
        kept.append(&mut late);
        kept.append(fresh);
        waiting.append(&mut kept);

        let mut has_begun = false;
        if let Some(slot) = open.and_then(|index| self.slots.get_mut(index)) {
            slot.close(bow, &mut self.checkpoint);
            has_begun = !slot.is_idle();
        }
        match (gathering.commits, has_begun) {
            (true, _) => Gathered::Commit,
            (false, true) => Gathered::Some,
            (false, false) => Gathered::Nothing,
        }
    }

    /// Looks at the first `count` bios of `list`. Returns those that have to wait.
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
                Fate::Gone => self.waits = 0,
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

    /// Decides about one bio. `open` is the slot that takes up writes.
    fn decide(&mut self, bow: &Arc<Bow>, bio: Bio, open: Option<usize>) -> Fate {
        let span = bio.span();
        if bio.operation() == Operation::Discard {
            // Nothing changes on the device, so there is nothing to back up.
            self.checkpoint
                .discard(&span, |freed| bow.mark_unwritable(&freed));
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
        // Once the log cannot be written there is no use in copies.
        let open = open.filter(|_| !self.failed);
        let slot = open.and_then(|index| self.slots.get_mut(index));
        let batch = slot.map(|slot| &mut slot.batch);
        let verdict = self.checkpoint.prepare(&span, batch);
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
            Verdict::Joined => match open.and_then(|index| self.slots.get_mut(index)) {
                Some(slot) => {
                    slot.bios.push(bio);
                    Fate::Joined
                }
                None => Fate::Waits(bio),
            },
            // Writes from before the discards must have ended before their space is used.
            Verdict::NoSpace if self.begin_reclaim(bow) => Fate::Waits(bio),
            Verdict::NoSpace => self.out_of_space(bow, bio),
        }
    }

    /// Says in the kernel's log that space ran out, but not each time that a discard gives a little back.
    fn warn_of_full(&mut self, bow: &Bow) {
        let now = time::real_seconds();
        if now.abs_diff(self.warned) < WARN_SECONDS {
            return;
        }
        self.warned = now;
        pr_warn!(
            "{}: no free space is left for backups; writes to unchanged blocks fail, rollback stays \
             possible\n",
            bow.device.name()
        );
    }

    /// There is no free space for a backup that `bio` needs.
    fn out_of_space(&mut self, bow: &Arc<Bow>, bio: Bio) -> Fate {
        let is_first = !core::mem::replace(&mut self.full, true);
        match bow.on_full {
            OnFull::Error => {
                if is_first {
                    self.warn_of_full(bow);
                    *bow.report.lock() = self.report();
                    bow.events.raise();
                }
                bio.end(Status::NO_SPACE);
                Fate::Gone
            }
            OnFull::Commit => Fate::Commits(bio),
        }
    }
}
