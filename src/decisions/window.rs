// SPDX-License-Identifier: GPL-2.0

//! Prefetching: how much more than a write needs is backed up with it.
//!
//! A backup costs a read, a write, a log entry and a share of a log write, and all of these cost little
//! more for many blocks than for one. Where first writes lie close together it pays to back up the
//! neighbours at once; where they do not it is waste. Which of the two it is shows only later, in how
//! many of the blocks that are written for the first time have a backup already: the hit rate.
//!
//! # Size
//!
//! A first write waits for the backup of its whole window, and for those of the writes before it. So the
//! more first writes wait together, the smaller is the window ([`Window::size_for`]): what all of them
//! copy is the same. A device that takes long to make the log durable has them wait anyway, and more is
//! copied for each log write.
//!
//! # Bound
//!
//! *Prefetched* are the sectors that were backed up beyond need and have not been written since. Were
//! first writes evenly spread over some range, each would hit what is prefetched with the probability of
//! its part of that range. So the sum of what was prefetched at each first write, divided by the hits, is
//! the range. If that is no more than [`RANGE_MAX`], all of it is worth it; if it is more, or too little is
//! known yet, up to [`PREFETCH_TRIAL`] are tried. A range that predicts hits which do not come is forgotten:
//! the load has changed. There are never more sectors prefetched than [`PREFETCH_MAX`], nor than a share of
//! the free space: so whatever the load, no more than that is ever copied in vain.

use super::{
    block_size::BlockSize,
    log::SECTOR_SHIFT, //
};
use core::ops::Range as Span;

/// The largest window in sectors. A window begins and ends at multiples of its size.
pub const SIZE: u64 = (1 << 20) >> SECTOR_SHIFT;

/// The smallest window in sectors.
const SIZE_MIN: u64 = (28 << 10) >> SECTOR_SHIFT;

/// The sectors that the first writes of one batch copy together, if that is what their windows allow, where
/// a log write takes no more than [`LOG_FAST`].
const SHARED: u64 = (384 << 10) >> SECTOR_SHIFT;

/// The time in microseconds of a log write that is short beside the copies of a batch.
const LOG_FAST: u64 = 500;

/// The time in microseconds of a log write beyond which no more is copied for it.
const LOG_SLOW: u64 = 16 * LOG_FAST;

/// Prefetch limit in sectors while the range of first writes is unknown or large.
const PREFETCH_TRIAL: u64 = SIZE;

/// Prefetch limit in sectors.
const PREFETCH_MAX: u64 = 16 * SIZE;

/// The most sectors ahead with those of streams, which are sure to be hit sooner than others.
const PREFETCH_STREAM: u64 = PREFETCH_MAX + 8 * SIZE;

/// The most sectors that first writes may range over if all of that is to be backed up ahead.
const RANGE_MAX: u64 = 48 * SIZE;

/// A write that continues so many changed sectors is part of a stream, such as those to a journal.
const STREAM_MIN: u64 = (16 << 10) >> SECTOR_SHIFT;

/// Hits that may be chance.
const HITS_DOUBTED: u64 = 2;

/// The range is forgotten when it has predicted so many hits since the last one came.
const HITS_MISSED: u64 = 4;

/// What is known counts half when it is this much, so that a load may change: the sum of what was
/// prefetched, in sectors.
const EXPOSURE_MAX: u64 = 8 * RANGE_MAX;

/// The prefetched sectors are at most the free space divided by this.
const PREFETCH_PER_FREE: u64 = 8;

/// The window of a device.
pub struct Window {
    /// Prefetched sectors.
    prefetched: u64,
    /// The sum of what was prefetched at each of the last first writes of a block.
    exposure: u64,
    /// How many of these were hits.
    hits: u64,
    /// The sum of what was prefetched at each miss since the last hit.
    dry: u64,
    /// The time that a log write takes, in microseconds.
    log_time: u64,
    /// Set when a backup of more than was needed has failed: it might not have without the rest.
    closed: bool,
}

impl Window {
    /// The window of a new checkpoint.
    pub const fn new() -> Self {
        Self {
            prefetched: 0,
            exposure: 0,
            hits: 0,
            dry: 0,
            log_time: LOG_FAST,
            closed: false,
        }
    }

    /// Returns the size in sectors of the window of each of `writes` first writes that are copied together. It
    /// is a multiple of the largest block.
    pub fn size_for(&self, writes: usize) -> u64 {
        // At depth 1 nothing waits but the write itself.
        if writes <= 1 {
            return SIZE;
        }
        let all = SHARED.saturating_mul(self.log_time) / LOG_FAST;
        let share = all.checked_div(writes as u64).unwrap_or(SIZE);
        BlockSize::MAX.down(share).clamp(SIZE_MIN, SIZE)
    }

    /// Says that a log write took `time` microseconds. A single one may have waited for something else, so
    /// one that is short counts at once, and long ones step by step.
    pub fn log_write_took(&mut self, time: u64) {
        self.log_time = time.clamp(LOG_FAST, self.log_time.saturating_mul(2).min(LOG_SLOW));
    }

    /// Returns the sectors in which unchanged ones are worth backing up when `wanted` has to be, if there
    /// are any beyond `wanted`: those of its window of `size` sectors, or if they are too many and
    /// `wanted` continues what was changed before it, as many as that, which is `behind`. `free` is the
    /// free space in sectors.
    pub fn around(
        &self,
        wanted: &Span<u64>,
        behind: u64,
        free: u64,
        size: u64,
    ) -> Option<Span<u64>> {
        let begin = wanted.start.checked_rem(size)?;
        let window =
            wanted.start.saturating_sub(begin)..wanted.end.checked_next_multiple_of(size)?;
        let length = window.end.saturating_sub(window.start);
        if self.closed || length > SIZE {
            return None;
        }
        let certain = self.hits.saturating_sub(HITS_DOUBTED);
        let ranges_over_little = certain > 0 && self.exposure <= certain.saturating_mul(RANGE_MAX);
        let fits = |length, most: u64| {
            self.prefetched.saturating_add(length) <= most.min(free / PREFETCH_PER_FREE)
        };
        let most = if ranges_over_little {
            PREFETCH_MAX
        } else {
            PREFETCH_TRIAL
        };
        if fits(length, most) {
            return Some(window);
        }
        let stream = wanted.start..window.end.min(wanted.end.saturating_add(behind));
        let length = stream.end.saturating_sub(stream.start);
        (behind >= STREAM_MIN && fits(length, PREFETCH_STREAM)).then_some(stream)
    }

    /// Forgets the range if hits that it predicts have not come. To be called between batches: hits are
    /// counted between them.
    pub fn reconsider(&mut self) {
        let before = self.exposure.saturating_sub(self.dry);
        if self.dry.saturating_mul(self.hits) > before.saturating_mul(HITS_MISSED) {
            self.hits = 0;
        }
    }

    /// Counts a copy of `sectors` sectors that a write needs, and `ahead` more beyond need.
    pub fn miss(&mut self, sectors: u64, ahead: u64, block: BlockSize) {
        self.expose(block.number(sectors));
        self.dry = self.dry.saturating_add(self.prefetched);
        self.prefetched = self.prefetched.saturating_add(ahead);
    }

    /// Counts `blocks` prefetched blocks that were written or discarded.
    pub fn hit(&mut self, blocks: u64, block: BlockSize) {
        if blocks == 0 {
            return;
        }
        let sectors = blocks.saturating_mul(block.sectors());
        self.hits = self.hits.saturating_add(blocks);
        self.dry = 0;
        self.expose(blocks);
        self.prefetched = self.prefetched.saturating_sub(sectors);
    }

    /// Counts `blocks` first writes.
    fn expose(&mut self, blocks: u64) {
        self.exposure = self
            .exposure
            .saturating_add(self.prefetched.saturating_mul(blocks));
        if self.exposure >= EXPOSURE_MAX {
            self.exposure /= 2;
            self.hits /= 2;
            self.dry /= 2;
        }
    }

    /// Closes the window: a backup of more than was needed failed.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
