// SPDX-License-Identifier: GPL-2.0

//! How much more than a write needs is backed up with it.
//!
//! A backup costs a read, a write, a log entry and a share of a barrier, and all of these cost little
//! more for a megabyte than for one block. Where first writes lie close together it pays to back up
//! the neighbours at once; where they do not it is waste. Which of the two it is shows only later, in
//! how many of the blocks that are written for the first time have a backup already: the hit rate.
//!
//! # Bound
//!
//! *Ahead* are the sectors that were backed up beyond need and have not been written since. If they
//! are hit at some rate, first writes range over about *ahead* divided by that rate. If that is no
//! more than [`RANGE_MAX`], all of it is worth it; if it is more, or not known yet, up to
//! [`AHEAD_TRIAL`] are tried. There are never more sectors ahead than [`AHEAD_MAX`], nor than a share
//! of the free space: so whatever the load, no more than that is ever copied in vain.

use super::{
    block_size::BlockSize,
    log::SECTOR_SHIFT, //
};
use core::ops::Range as Span;

/// The window in sectors: what is backed up at once ends at multiples of it, and is no longer.
pub const SIZE: u64 = (1 << 20) >> SECTOR_SHIFT;

/// The most sectors ahead, as long as first writes are not known to range over little.
const AHEAD_TRIAL: u64 = SIZE;

/// The most sectors ahead.
const AHEAD_MAX: u64 = 16 * SIZE;

/// The most sectors that first writes may range over if all of that is to be backed up ahead.
const RANGE_MAX: u64 = 24 * SIZE;

/// The sectors ahead are at most the free space divided by this.
const AHEAD_PER_FREE: u64 = 8;

/// The hit rate at which all first writes hit.
const RATE_ONE: u64 = 1 << 16;

/// The hit rate is that of about so many of the last blocks.
const RATE_BLOCKS: u64 = 32;

/// The window of a device.
pub struct Window {
    /// Sectors ahead.
    ahead: u64,
    /// The hit rate, a moving average: a part of [`RATE_ONE`].
    rate: u64,
    /// Set when a backup of more than was needed has failed: it might not have without the rest.
    closed: bool,
}

impl Window {
    /// The window of a new checkpoint.
    pub const fn new() -> Self {
        Self {
            ahead: 0,
            rate: 0,
            closed: false,
        }
    }

    /// The sectors in which unchanged ones are worth backing up when `wanted` has to be, if there are
    /// any beyond `wanted`. `free` is the free space in sectors.
    pub fn around(&self, wanted: &Span<u64>, free: u64) -> Option<Span<u64>> {
        let mask = SIZE.wrapping_sub(1);
        let window = wanted.start & !mask..wanted.end.saturating_add(mask) & !mask;
        let length = window.end.saturating_sub(window.start);
        let ranges_over_little =
            self.ahead.saturating_mul(RATE_ONE) <= self.rate.saturating_mul(RANGE_MAX);
        let most = if ranges_over_little {
            AHEAD_MAX
        } else {
            AHEAD_TRIAL
        };
        let ahead = self.ahead.saturating_add(length);
        (!self.closed && length <= SIZE && ahead <= most.min(free / AHEAD_PER_FREE))
            .then_some(window)
    }

    /// `sectors` sectors are backed up since a write needs it, `ahead` more beyond need.
    pub fn miss(&mut self, sectors: u64, ahead: u64, block: BlockSize) {
        self.ahead = self.ahead.saturating_add(ahead);
        for _ in 0..block.number(sectors).min(RATE_BLOCKS) {
            self.rate -= self.rate / RATE_BLOCKS;
        }
    }

    /// `blocks` blocks that were backed up ahead were written or discarded.
    pub fn hit(&mut self, blocks: u64, block: BlockSize) {
        let sectors = blocks.saturating_mul(block.sectors());
        self.ahead = self.ahead.saturating_sub(sectors);
        for _ in 0..blocks.min(RATE_BLOCKS) {
            self.rate += (RATE_ONE - self.rate) / RATE_BLOCKS;
        }
    }

    /// A backup of more than was needed failed.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
