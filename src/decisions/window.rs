// SPDX-License-Identifier: GPL-2.0

//! Prefetching: sizes of the windows that are backed up together with what a write needs.
//!
//! A backup costs a read, a write, a log entry and a share of a log write, and each of these costs little
//! more for many blocks than for one. Backing up the neighbours of a first write at once pays if they are
//! written soon, and is waste if not. Only later does the hit rate tell: the part of the blocks written for
//! the first time that have a backup already.
//!
//! # Size
//!
//! A first write waits for the backup of its whole window, and for those of the writes before it. So the more
//! first writes wait together, the smaller their windows are ([`Window::size_for`]), and what all of them
//! copy stays the same. If a log write takes long, the writes wait anyway, and more is copied for each log
//! write.
//!
//! # Bound
//!
//! *Prefetched* sectors were backed up beyond need and have not been written since. If first writes were
//! evenly spread over some range, each of them would hit a prefetched sector with a probability that is the
//! prefetched part of the range. So the sum of the prefetched sectors at each first write, divided by the
//! hits, estimates the size of the range. If the range is no larger than [`RANGE_MAX`], up to
//! [`PREFETCH_MAX`] are prefetched; if it is larger, or not known yet, up to [`PREFETCH_TRIAL`]. A range that
//! predicts hits which do not come is forgotten, since the load has changed. Streams may add to this, up to
//! [`PREFETCH_STREAM`]. Prefetched sectors are also at most a share of the free space. So whatever the load,
//! the amount that is copied in vain is bounded.

use super::{
    block_size::BlockSize,
    log::SECTOR_SHIFT, //
};
use core::ops::Range as Span;

/// Size of the largest window in sectors. A window begins and ends at multiples of its size.
pub const SIZE: u64 = (1 << 20) >> SECTOR_SHIFT;

/// Size of the smallest window in sectors.
const SIZE_MIN: u64 = (24 << 10) >> SECTOR_SHIFT;

/// Number of sectors that the first writes of one batch copy together, if their windows allow it and a log
/// write takes no more than [`LOG_FAST`].
const SHARED: u64 = (352 << 10) >> SECTOR_SHIFT;

/// Time of a fast log write in microseconds: short beside the copies of a batch.
const LOG_FAST: u64 = 500;

/// Time of a log write in microseconds beyond which no more is copied for it.
const LOG_SLOW: u64 = 16 * LOG_FAST;

/// Prefetch limit in sectors while the range of first writes is unknown or large.
const PREFETCH_TRIAL: u64 = SIZE;

/// Prefetch limit in sectors while first writes range over little.
const PREFETCH_MAX: u64 = 16 * SIZE;

/// Prefetch limit in sectors for streams, which are sure to hit sooner than other writes.
const PREFETCH_STREAM: u64 = PREFETCH_MAX + 8 * SIZE;

/// Largest range of first writes in sectors for which prefetching goes beyond the trial.
const RANGE_MAX: u64 = 48 * SIZE;

/// Number of writable sectors in front of a write that make the write part of a stream, such as the writes
/// to a journal.
const STREAM_MIN: u64 = (16 << 10) >> SECTOR_SHIFT;

/// Number of hits that may be chance.
const HITS_DOUBTED: u64 = 2;

/// Number of hits that the range has to predict since the last hit for the range to be forgotten.
const HITS_MISSED: u64 = 4;

/// Sum of prefetched sectors at which what is known starts to count half, so that old knowledge fades.
const EXPOSURE_MAX: u64 = 8 * RANGE_MAX;

/// Divisor of the free space that gives a further prefetch limit.
const PREFETCH_PER_FREE: u64 = 8;

/// Prefetching of a device: what is known of its first writes.
pub struct Window {
    /// Number of prefetched sectors.
    prefetched: u64,
    /// Sum of the prefetched sectors at each of the latest first writes of a block.
    exposure: u64,
    /// Number of hits among these first writes.
    hits: u64,
    /// Sum of the prefetched sectors at each miss since the last hit.
    dry: u64,
    /// Time of a log write in microseconds.
    log_time: u64,
    /// Set when a copy of more than was needed has failed: without the prefetched part it might not have.
    closed: bool,
}

impl Window {
    /// Creates the window of a new checkpoint.
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

    /// Returns the size in sectors of the windows of `writes` first writes that are copied together, a
    /// multiple of the largest block size.
    pub fn size_for(&self, writes: usize) -> u64 {
        // A write that is alone waits for no other window.
        if writes <= 1 {
            return SIZE;
        }
        let all = SHARED.saturating_mul(self.log_time) / LOG_FAST;
        let share = all.checked_div(writes as u64).unwrap_or(SIZE);
        BlockSize::MAX.down(share).clamp(SIZE_MIN, SIZE)
    }

    /// Records that a log write took `time` microseconds. A single log write may have waited for something
    /// else, so a shorter time counts at once and longer times step by step.
    pub fn log_write_took(&mut self, time: u64) {
        let most = self.log_time.saturating_mul(2).min(LOG_SLOW);
        self.log_time = time.min(most).max(LOG_FAST);
    }

    /// Returns the sectors in which unchanged ones are to be copied together with `wanted`, if that may be
    /// more than `wanted`: the window of `size` sectors around `wanted`. If that is too much and `wanted`
    /// continues a stream, as many sectors of the window after `wanted` as are writable just before it.
    ///
    /// `before` is the number of these writable sectors, `free` the free space. All are in sectors.
    pub fn around(
        &self,
        wanted: &Span<u64>,
        before: u64,
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
        let stream = wanted.start..window.end.min(wanted.end.saturating_add(before));
        let length = stream.end.saturating_sub(stream.start);
        (before >= STREAM_MIN && fits(length, PREFETCH_STREAM)).then_some(stream)
    }

    /// Forgets the range if hits that it predicts have not come. To be called between batches, since hits are
    /// counted between batches.
    pub fn reconsider(&mut self) {
        let before = self.exposure.saturating_sub(self.dry);
        if self.dry.saturating_mul(self.hits) > before.saturating_mul(HITS_MISSED) {
            self.hits = 0;
        }
    }

    /// Counts a copy of `sectors` sectors that a write needs, and `prefetched` sectors beyond these.
    pub fn miss(&mut self, sectors: u64, prefetched: u64, block: BlockSize) {
        self.expose(block.number(sectors));
        self.dry = self.dry.saturating_add(self.prefetched);
        self.prefetched = self.prefetched.saturating_add(prefetched);
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

    /// Adds `blocks` first writes to the exposure.
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

    /// Stops prefetching, since a copy of more than was needed has failed.
    pub fn close(&mut self) {
        self.closed = true;
    }
}
