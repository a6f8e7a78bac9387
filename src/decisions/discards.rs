// SPDX-License-Identifier: GPL-2.0

//! Discards in state 1: blocks that were writable, and will be free again.
//!
//! A write that began before a discard may still be in flight after the discard, so discarded space is not
//! free at once. The target waits until the writes in flight have completed (a drain). Space that was
//! discarded before the drain began is free when the drain ends.

use super::{
    block_size::BlockSize,
    ranges::Kind,
    spans::Spans,
    stock::Ranges, //
};
use core::ops::Range as Span;

/// Discarded space of a checkpoint.
#[derive(Default)]
pub(super) struct Discards {
    /// Spans that cover all sectors of kind [`Kind::Discarded`].
    discarded: Spans,
    /// Spans that cover all sectors of kind [`Kind::Draining`].
    draining: Spans,
}

impl Discards {
    /// Makes the writable whole blocks of `span` discarded, as long as the stock of `ranges` has nodes. Calls
    /// `freed` with each run of such blocks.
    pub(super) fn add(
        &mut self,
        span: &Span<u64>,
        block: BlockSize,
        ranges: &mut Ranges,
        mut freed: impl FnMut(Span<u64>),
    ) {
        let end = block.down(span.end);
        let mut position = block.up(span.start);
        while position < end && ranges.has_nodes() {
            let run = ranges.run_at(position);
            let run_end = run.end.min(end);
            if run.kind == Some(Kind::Writable)
                && ranges.set(position..run_end, Kind::Discarded).is_ok()
            {
                self.discarded.add(position..run_end);
                freed(position..run_end);
            }
            position = run_end;
        }
    }

    /// Begins a drain of all space that is discarded now. Returns whether there is any. No other drain is in
    /// progress.
    pub(super) fn begin_drain(&mut self, ranges: &mut Ranges) -> bool {
        if ranges.total(Kind::Discarded) == 0 {
            return false;
        }
        self.draining = core::mem::take(&mut self.discarded);
        for span in self.draining.spans() {
            turn(span, Kind::Discarded, Kind::Draining, ranges);
        }
        true
    }

    /// Frees the space whose drain has ended. Calls `freed` with spans that cover the space.
    pub(super) fn end_drain(&mut self, ranges: &mut Ranges, mut freed: impl FnMut(&Span<u64>)) {
        for span in core::mem::take(&mut self.draining).spans() {
            turn(span, Kind::Draining, Kind::Free, ranges);
            freed(span);
        }
    }
}

/// Changes all sectors of kind `from` within `span` to kind `to`. O(log n) for each range in `span`.
pub(super) fn turn(span: &Span<u64>, from: Kind, to: Kind, ranges: &mut Ranges) {
    let mut position = span.start;
    loop {
        let next = ranges.first_from(position, |run| {
            run.start >= span.end || run.kind == Some(from)
        });
        let Some(run) = next.filter(|run| run.start < span.end) else {
            return;
        };
        // A change of a whole range takes no more nodes than it gives back.
        if ranges.change(run.start..run.end, Some(to)).is_err() {
            debug_assert!(false);
            return;
        }
        position = run.end;
    }
}
