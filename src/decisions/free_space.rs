// SPDX-License-Identifier: GPL-2.0

//! Free space in state 0: the sectors that the file system has discarded and not written since.
//!
//! The record is in sectors, not in blocks: discards come in any size and alignment, and two half blocks that
//! were discarded one by one make a whole free block. Only [`into_ranges`](FreeSpace::into_ranges), at the
//! checkpoint, rounds to whole blocks.
//!
//! Forgetting free space is always safe: there is less room for backups, nothing else. So free space is
//! forgotten where there is no tree node for it. Believing a written sector to be free is never safe.

use super::{
    block_size::BlockSize,
    ranges::{
        Kind,
        Nodes,
        RangeTree,
        Run, //
    },
};
use core::ops::Range as Span;
use kernel::prelude::*;

/// Free sectors of a device in state 0.
pub struct FreeSpace {
    ranges: RangeTree,
}

impl FreeSpace {
    /// Creates the record of a device of which no sector is known to be free.
    pub fn new() -> Self {
        Self {
            ranges: RangeTree::new(),
        }
    }

    /// Continues with the ranges of a checkpoint that has ended, all of them free.
    pub fn from_ranges(ranges: RangeTree) -> Self {
        Self { ranges }
    }

    /// Returns the number of free sectors.
    pub fn sectors(&self) -> u64 {
        self.ranges.total(Kind::Free)
    }

    /// Returns the number of ranges that the free sectors form.
    pub fn ranges(&self) -> usize {
        self.ranges.len()
    }

    /// Forgets up to `most` ranges of free space that lie within `span`. Returns whether none is left. If so,
    /// a [`discard`](Self::discard) or [`write`](Self::write) of `span` takes no longer than one of a single
    /// sector. So a caller that holds a lock can make a change of many ranges in pieces.
    pub fn forget(&mut self, span: &Span<u64>, most: usize, nodes: &mut Nodes) -> bool {
        self.ranges.forget_within(span, most, nodes)
    }

    /// Records that the sectors of `span` were discarded.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if `nodes` holds fewer than [`RangeTree::NODES_PER_SET`] nodes; the record has not changed
    /// then, and the discard may be ignored.
    pub fn discard(&mut self, span: Span<u64>, nodes: &mut Nodes) -> Result {
        self.ranges.set(span, Some(Kind::Free), nodes)
    }

    /// Returns whether a write to `span` would change the record. O(log n): most writes do not change it.
    pub fn is_touched_by(&self, span: &Span<u64>) -> bool {
        self.ranges.touches(span)
    }

    /// Records that the sectors of `span` are being written, so they are not free any more.
    ///
    /// If `nodes` holds too few nodes, forgets the whole free ranges that `span` touches.
    pub fn write(&mut self, span: Span<u64>, nodes: &mut Nodes) {
        if self.ranges.set(span.clone(), None, nodes).is_ok() {
            return;
        }
        let mut position = span.start;
        while let Some(run) = self.ranges.first_from(position, |_| true) {
            if run.start >= span.end {
                break;
            }
            self.ranges.forget(&run, nodes);
            position = run.end;
        }
    }

    /// Turns the record into the range tree of a checkpoint, in which free ranges are cut to whole blocks
    /// within `bounds`. O(n), and O(log n) for each range that is cut.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if `nodes` holds fewer than [`RangeTree::NODES_PER_SET`] nodes.
    pub fn into_ranges(
        mut self,
        block: BlockSize,
        bounds: Span<u64>,
        nodes: &mut Nodes,
    ) -> Result<RangeTree> {
        let whole = |run: &Run| {
            let start = block.up(run.start.max(bounds.start));
            let end = block.down(run.end.min(bounds.end));
            start..end.max(start)
        };
        let mut position = 0;
        loop {
            let cut = self.ranges.first_from(position, |run| {
                let whole = whole(run);
                whole.start != run.start || whole.end != run.end
            });
            let Some(run) = cut else {
                return Ok(self.ranges);
            };
            let whole = whole(&run);
            self.ranges
                .set(run.start..whole.start.min(run.end), None, nodes)?;
            self.ranges
                .set(whole.end.max(run.start)..run.end, None, nodes)?;
            position = run.end;
        }
    }
}
