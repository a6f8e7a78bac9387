// SPDX-License-Identifier: GPL-2.0

//! Discards in state 1: space that was written since the checkpoint and is free again.
//!
//! A write that began before a discard may still be in flight after it, so discarded space is not free at
//! once: the target waits until the writes in flight have ended (a drain), and what was discarded before
//! the drain began is free then.

use super::{
    block_size::BlockSize,
    ranges::{
        Kind,
        Ranges, //
    },
    spans::Spans,
};
use core::ops::Range as Span;

/// Discarded space of a checkpoint.
#[derive(Default)]
pub(super) struct Discards {
    /// Cover of all sectors of kind [`Kind::Discarded`].
    discarded: Spans,
    /// Cover of all sectors of kind [`Kind::Draining`].
    draining: Spans,
}

impl Discards {
    /// Makes the whole blocks of `span` that are writable discarded, as long as `has_nodes` holds. Calls
    /// `freed` with each such run.
    pub(super) fn add(
        &mut self,
        span: &Span<u64>,
        block: BlockSize,
        ranges: &mut Ranges,
        has_nodes: impl Fn(&Ranges) -> bool,
        mut freed: impl FnMut(Span<u64>),
    ) {
        let end = block.down(span.end);
        let mut position = block.up(span.start);
        while position < end && has_nodes(ranges) {
            let run = ranges.run_at(position);
            let run_end = run.end.min(end);
            if run.kind == Some(Kind::Writable) {
                if ranges.set(position..run_end, Kind::Discarded).is_ok() {
                    self.discarded.add(position..run_end);
                    freed(position..run_end);
                }
            }
            position = run_end;
        }
    }

    /// Has a drain begin for all that is discarded now. Returns whether there is anything.
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

    /// Makes free the space whose drain has ended. Calls `freed` with spans that cover it.
    pub(super) fn end_drain(&mut self, ranges: &mut Ranges, mut freed: impl FnMut(&Span<u64>)) {
        for span in core::mem::take(&mut self.draining).spans() {
            turn(span, Kind::Draining, Kind::Free, ranges);
            freed(span);
        }
    }
}

/// Makes all sectors of kind `from` within `span` of kind `to`. O(the ranges in `span`).
fn turn(span: &Span<u64>, from: Kind, to: Kind, ranges: &mut Ranges) {
    let mut position = span.start;
    loop {
        let next = ranges.first_from(position, |run| {
            run.start >= span.end || run.kind == Some(from)
        });
        let Some(run) = next.filter(|run| run.start < span.end) else {
            return;
        };
        // A whole range takes no more nodes than it gives.
        if ranges.change(run.start..run.end, Some(to)).is_err() {
            debug_assert!(false);
            return;
        }
        position = run.end;
    }
}
