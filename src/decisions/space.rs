// SPDX-License-Identifier: GPL-2.0

//! Places for backups and full log blocks: which free sectors are handed out next.
//!
//! Space is taken from the highest free range downwards, since file systems fill a device from below, in
//! windows that are filled upwards, so that backups made together lie together.
//!
//! # Invariants
//!
//! - No free range starts at or above `limit`, except in `window`.
//! - The sectors of `unreserved` are free ranges of the tree, and below the start of `window`, so nobody
//!   else is given them.

use super::ranges::{
    Kind,
    Ranges, //
};
use core::ops::Range as Span;

/// The most sectors of a window.
const WINDOW_MAX: u64 = 16384;

/// The allocator of places. The free ranges themselves are in the tree.
pub(super) struct Space {
    /// Allocation window: where places are being handed out.
    window: Span<u64>,
    /// Scan limit: the next window is looked for below this sector.
    limit: u64,
    /// Places of the batch that takes copies, which the tree still has as free.
    unreserved: Span<u64>,
    /// Size of the device in sectors.
    sectors: u64,
}

impl Space {
    /// Creates the allocator of a device of `sectors` sectors.
    pub(super) const fn new(sectors: u64) -> Self {
        Self {
            window: 0..0,
            limit: sectors,
            unreserved: 0..0,
            sectors,
        }
    }

    /// Returns the free sectors that are handed out next, which lie together. Moves the window on to where
    /// there are some.
    fn next(&mut self, ranges: &mut Ranges) -> Option<Span<u64>> {
        while ranges.total(Kind::Free) > 0 {
            while self.window.start < self.window.end {
                let run = ranges.run_at(self.window.start);
                let end = run.end.min(self.window.end);
                if run.kind == Some(Kind::Free) {
                    return Some(self.window.start..end);
                }
                self.window.start = end;
            }
            // The search is for free ranges of the tree.
            self.reserve(ranges);
            let mut run = ranges.last_below(self.limit, Kind::Free);
            if run.is_none() {
                self.limit = self.sectors;
                run = ranges.last_below(self.limit, Kind::Free);
            }
            let run = run?;
            let end = run.end.min(self.limit);
            self.window = run.start.max(end.saturating_sub(WINDOW_MAX))..end;
            self.limit = self.window.start;
        }
        None
    }

    /// Takes one block of `sectors` sectors and makes it of `kind`. Returns its first sector.
    pub(super) fn take_block(
        &mut self,
        sectors: u64,
        kind: Kind,
        ranges: &mut Ranges,
    ) -> Option<u64> {
        let start = self.next(ranges)?.start;
        self.window.start = start.saturating_add(sectors);
        ranges.set(start..self.window.start, kind).ok()?;
        Some(start)
    }

    /// Reserves a block of `sectors` sectors from the end of the free space at hand, so that the backups
    /// before and after it lie together. Returns its first sector.
    pub(super) fn reserve_last_block(&mut self, sectors: u64, ranges: &mut Ranges) -> Option<u64> {
        let end = self.next(ranges)?.end;
        let start = end.saturating_sub(sectors);
        ranges.set(start..end, Kind::Reserved).ok()?;
        Some(start)
    }

    /// Finds up to `sectors` free sectors that lie together, for [`take`](Self::take).
    pub(super) fn find(&mut self, sectors: u64, ranges: &mut Ranges) -> Option<Span<u64>> {
        let free = self.next(ranges)?;
        Some(free.start..free.end.min(free.start.saturating_add(sectors)))
    }

    /// Takes `place`, which begins where [`find`](Self::find) says, for a copy of the batch that takes
    /// copies. `is_apart`: the place will not be of the same kind as its neighbours, and is a range of its
    /// own.
    pub(super) fn take(&mut self, place: &Span<u64>, is_apart: bool, ranges: &mut Ranges) {
        if is_apart || self.unreserved.end != place.start {
            self.reserve(ranges);
            self.unreserved.start = place.start;
        }
        self.unreserved.end = place.end;
        self.window.start = place.end;
        if is_apart {
            self.reserve(ranges);
        }
    }

    /// Returns whether part of `span` was taken and is not reserved in the tree yet.
    pub(super) fn overlaps_unreserved(&self, span: &Span<u64>) -> bool {
        span.start < self.unreserved.end && self.unreserved.start < span.end
    }

    /// Reserves in the tree what was taken, with one change for all that lies together.
    pub(super) fn reserve(&mut self, ranges: &mut Ranges) {
        let places = core::mem::take(&mut self.unreserved);
        if ranges.set(places, Kind::Reserved).is_err() {
            // Cannot be: nothing is decided without nodes left for this.
            debug_assert!(false);
        }
    }

    /// Says that there may be free space below `end` again.
    pub(super) fn freed_below(&mut self, end: u64) {
        self.limit = self.limit.max(end);
    }
}
