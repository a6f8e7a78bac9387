// SPDX-License-Identifier: GPL-2.0

//! Placement of backups and full log blocks in free space.
//!
//! Space is taken from the highest free range downwards, since file systems fill a device from below. It is
//! taken in allocation windows that are filled upwards, so that backups made together lie together.
//!
//! # Invariants
//!
//! - No free range starts at or above `limit`, except in `window` and in `unreserved`.
//! - The sectors of `unreserved` are free in the tree and below the start of `window`, so they are not handed
//!   out again.

use super::{
    ranges::Kind,
    stock::Ranges, //
};
use core::ops::Range as Span;

/// Maximum size of an allocation window in sectors.
const WINDOW_MAX: u64 = 16384;

/// Allocator of places. The free ranges themselves are in the tree. See the [module](self) for its
/// invariants.
pub(super) struct Space {
    /// Allocation window: the sectors that places are handed out from.
    window: Span<u64>,
    /// Scan limit: the next allocation window is searched for below this sector.
    limit: u64,
    /// Places of the open batch that are still free in the tree.
    unreserved: Span<u64>,
    /// Size of the device in sectors.
    sectors: u64,
}

impl Space {
    /// Creates the allocator of a device of `sectors` sectors.
    pub(super) const fn new(sectors: u64) -> Self {
        // INVARIANT: No range starts at or above the end of the device, and `unreserved` is empty.
        Self {
            window: 0..0,
            limit: sectors,
            unreserved: 0..0,
            sectors,
        }
    }

    /// Returns the adjacent free sectors that are handed out next, moving the allocation window if there are
    /// none left in it. Returns [`None`] if there is no free space.
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
            // The search looks at the tree, so the tree has to know of all places that were taken.
            self.reserve(ranges);
            let mut run = ranges.last_below(self.limit, Kind::Free);
            if run.is_none() {
                self.limit = self.sectors;
                run = ranges.last_below(self.limit, Kind::Free);
            }
            let run = run?;
            let end = run.end.min(self.limit);
            self.window = run.start.max(end.saturating_sub(WINDOW_MAX))..end;
            // INVARIANT: `run` is the last free range that starts below the old limit. It starts in the new
            // window or below the new limit, and all others start below `run`.
            self.limit = self.window.start;
        }
        None
    }

    /// Takes one free block of `sectors` sectors and makes it of `kind`. Returns its first sector, or
    /// [`None`] if there is no free block or no tree node.
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

    /// Reserves a block of `sectors` sectors at the end of the free sectors that are handed out next, so that
    /// the backups before and after the block lie together. Returns its first sector, or [`None`] if there is
    /// no free block or no tree node.
    pub(super) fn reserve_last_block(&mut self, sectors: u64, ranges: &mut Ranges) -> Option<u64> {
        let end = self.next(ranges)?.end;
        let start = end.saturating_sub(sectors);
        ranges.set(start..end, Kind::Reserved).ok()?;
        Some(start)
    }

    /// Returns up to `sectors` adjacent free sectors, which [`take`](Self::take) can take.
    pub(super) fn find(&mut self, sectors: u64, ranges: &mut Ranges) -> Option<Span<u64>> {
        let free = self.next(ranges)?;
        Some(free.start..free.end.min(free.start.saturating_add(sectors)))
    }

    /// Takes `place`, which begins where [`find`](Self::find) says, for a copy of the open batch. `is_apart`:
    /// the place will not become of the same kind as its neighbours, so it is a range of its own.
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

    /// Returns the part of a device of `sectors` sectors in which a grant for `sector` may lie: not in the
    /// allocation window, unless the sector does, since what is placed there would have to be moved.
    pub(super) fn bounds_of_grant(&self, sector: u64, sectors: u64) -> Span<u64> {
        if sector < self.window.start {
            0..self.window.start
        } else if sector >= self.window.end {
            self.window.end..sectors
        } else {
            0..sectors
        }
    }

    /// Returns whether part of `span` was taken but is not reserved in the tree yet.
    pub(super) fn overlaps_unreserved(&self, span: &Span<u64>) -> bool {
        span.start < self.unreserved.end && self.unreserved.start < span.end
    }

    /// Reserves in the tree the places that were taken; places that lie together are one change of the tree.
    pub(super) fn reserve(&mut self, ranges: &mut Ranges) {
        let places = core::mem::take(&mut self.unreserved);
        if ranges.set(places, Kind::Reserved).is_err() {
            // Cannot happen: nothing is decided without enough nodes for this.
            debug_assert!(false);
        }
    }

    /// Raises the scan limit, since there may be free space below `end` again.
    pub(super) fn freed_below(&mut self, end: u64) {
        self.limit = self.limit.max(end);
    }
}
