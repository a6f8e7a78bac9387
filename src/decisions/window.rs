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
//! *Ahead* are the sectors that were backed up beyond need and have not been written since. Were first
//! writes evenly spread over some range, each would hit what is ahead with the probability of its part
//! of that range. So the sum of what was ahead at each first write, divided by the hits, is the range.
//! If that is no more than [`RANGE_MAX`], all of it is worth it; if it is more, or too little is known
//! yet, up to [`AHEAD_TRIAL`] are tried. There are never more sectors ahead than [`AHEAD_MAX`], nor than
//! a share of the free space: so whatever the load, no more than that is ever copied in vain.

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

/// The most sectors ahead with those of streams, which are sure to be hit sooner than others.
const AHEAD_STREAM: u64 = AHEAD_MAX + 8 * SIZE;

/// The most sectors that first writes may range over if all of that is to be backed up ahead.
const RANGE_MAX: u64 = 48 * SIZE;

/// A write that continues so many changed sectors is part of a stream, such as those to a journal.
const STREAM_MIN: u64 = (16 << 10) >> SECTOR_SHIFT;

/// Hits that may be chance.
const HITS_DOUBTED: u64 = 2;

/// What is known counts half when it is this much, so that a load may change: the sum of what was
/// ahead, in sectors.
const EXPOSURE_MAX: u64 = 8 * RANGE_MAX;

/// The sectors ahead are at most the free space divided by this.
const AHEAD_PER_FREE: u64 = 8;

/// The window of a device.
pub struct Window {
    /// Sectors ahead.
    ahead: u64,
    /// The sum of what was ahead at each of the last first writes of a block.
    exposure: u64,
    /// How many of these were hits.
    hits: u64,
    /// Set when a backup of more than was needed has failed: it might not have without the rest.
    closed: bool,
}

impl Window {
    /// The window of a new checkpoint.
    pub const fn new() -> Self {
        Self {
            ahead: 0,
            exposure: 0,
            hits: 0,
            closed: false,
        }
    }

    /// The sectors in which unchanged ones are worth backing up when `wanted` has to be, if there are
    /// any beyond `wanted`: those of its window, or if they are too many and it continues what was
    /// changed before it, as many as that, which is `behind`. `free` is the free space in sectors.
    pub fn around(&self, wanted: &Span<u64>, behind: u64, free: u64) -> Option<Span<u64>> {
        let mask = SIZE.wrapping_sub(1);
        let window = wanted.start & !mask..wanted.end.saturating_add(mask) & !mask;
        let length = window.end.saturating_sub(window.start);
        if self.closed || length > SIZE {
            return None;
        }
        let certain = self.hits.saturating_sub(HITS_DOUBTED);
        let ranges_over_little = certain > 0 && self.exposure <= certain.saturating_mul(RANGE_MAX);
        let fits = |length, most: u64| {
            self.ahead.saturating_add(length) <= most.min(free / AHEAD_PER_FREE)
        };
        let most = if ranges_over_little {
            AHEAD_MAX
        } else {
            AHEAD_TRIAL
        };
        if fits(length, most) {
            return Some(window);
        }
        let stream = wanted.start..window.end.min(wanted.end.saturating_add(behind));
        let length = stream.end.saturating_sub(stream.start);
        (behind >= STREAM_MIN && fits(length, AHEAD_STREAM)).then_some(stream)
    }

    /// `sectors` sectors are backed up since a write needs it, `ahead` more beyond need.
    pub fn miss(&mut self, sectors: u64, ahead: u64, block: BlockSize) {
        self.expose(block.number(sectors));
        self.ahead = self.ahead.saturating_add(ahead);
    }

    /// `blocks` blocks that were backed up ahead were written or discarded.
    pub fn hit(&mut self, blocks: u64, block: BlockSize) {
        let sectors = blocks.saturating_mul(block.sectors());
        self.hits = self.hits.saturating_add(blocks);
        self.expose(blocks);
        self.ahead = self.ahead.saturating_sub(sectors);
    }

    /// There were `blocks` first writes.
    fn expose(&mut self, blocks: u64) {
        self.exposure = self
            .exposure
            .saturating_add(self.ahead.saturating_mul(blocks));
        if self.exposure >= EXPOSURE_MAX {
            self.exposure /= 2;
            self.hits /= 2;
        }
    }

    /// A backup of more than was needed failed.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
