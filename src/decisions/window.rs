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
//! *Ahead* are the sectors that were backed up beyond need and have not been written since. There are
//! never more of them than [`AHEAD_TRIAL`], or than [`AHEAD_MAX`] while the hit rate is high, nor than
//! a share of the free space. So whatever the load, no more than that is ever copied in vain.

use super::{
    block_size::BlockSize,
    log::SECTOR_SHIFT, //
};
use core::ops::Range as Span;

/// The window in sectors: what is backed up at once ends at multiples of it, and is no longer.
pub const SIZE: u64 = (1 << 20) >> SECTOR_SHIFT;

/// The most sectors ahead, as long as nothing is known of the load or few blocks are hit.
const AHEAD_TRIAL: u64 = 3 * SIZE;

/// The most sectors ahead.
const AHEAD_MAX: u64 = 16 * SIZE;

/// The sectors ahead are at most the free space divided by this.
const AHEAD_PER_FREE: u64 = 8;

/// The hit rate at which all first writes hit.
const RATE_ONE: u32 = 1 << 16;

/// The hit rate from which on it counts as high.
const RATE_HIGH: u32 = RATE_ONE / 8;

/// The hit rate is that of about so many of the last blocks.
const RATE_BLOCKS: u32 = 64;

/// The window of a device.
pub struct Window {
    /// Sectors ahead.
    ahead: u64,
    /// A moving average, of [`RATE_ONE`].
    rate: u32,
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

    /// What to back up when `wanted` has to be: that, or more of `unchanged`, which contains it.
    /// `free` is the free space, `room` what fits into the batch, all in sectors; into an empty one
    /// fit [`SIZE`]. [`None`] if it is better to wait for a batch with more room.
    pub fn around(
        &mut self,
        wanted: &Span<u64>,
        unchanged: &Span<u64>,
        block: BlockSize,
        free: u64,
        room: u64,
    ) -> Option<Span<u64>> {
        for _ in 0..block.number(wanted.end.saturating_sub(wanted.start)).min(RATE_BLOCKS.into()) {
            self.rate -= self.rate / RATE_BLOCKS;
        }
        let mask = SIZE.wrapping_sub(1);
        let start = (wanted.start & !mask).max(unchanged.start);
        let end = (wanted.end.saturating_add(mask) & !mask).min(unchanged.end);
        let length = end.saturating_sub(start);
        let extra = length.saturating_sub(wanted.end.saturating_sub(wanted.start));
        let most = if self.rate >= RATE_HIGH {
            AHEAD_MAX
        } else {
            AHEAD_TRIAL
        };
        if self.closed
            || extra == 0
            || length > SIZE
            || self.ahead.saturating_add(extra) > most.min(free / AHEAD_PER_FREE)
        {
            return Some(wanted.clone());
        }
        if length > room {
            return None;
        }
        self.ahead = self.ahead.saturating_add(extra);
        Some(start..end)
    }

    /// `blocks` blocks that were backed up ahead were written or discarded.
    pub fn hit(&mut self, blocks: u64, block: BlockSize) {
        let sectors = blocks.saturating_mul(block.sectors());
        self.ahead = self.ahead.saturating_sub(sectors);
        for _ in 0..blocks.min(RATE_BLOCKS.into()) {
            self.rate += (RATE_ONE - self.rate) / RATE_BLOCKS;
        }
    }

    /// A backup of more than was needed failed.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
