// SPDX-License-Identifier: GPL-2.0

//! Writes to free space: [grants](super::grants) for them, and granted space that is taken back.

use super::{
    batch::Batch,
    checkpoint::{
        Checkpoint,
        Verdict, //
    },
    grants::NODES_PER_GRANT,
    ranges::Kind,
    stock::Ranges, //
};
use core::ops::Range as Span;

impl Checkpoint {
    /// Adds a grant of the block that starts at `sector`, which is free, and of free space around the block to
    /// `batch`. Returns the end of the grant.
    ///
    /// # Errors
    ///
    /// The [`Verdict`] on the write if there can be no grant.
    pub(super) fn grant(&mut self, sector: u64, batch: Option<&mut Batch>) -> Result<u64, Verdict> {
        let Some(batch) = batch.filter(|batch| batch.may_grant()) else {
            return Err(Verdict::Later);
        };
        if !self.grants.may_grant() {
            return Err(Verdict::Later);
        }
        let is_free =
            |ranges: &Ranges| matches!(ranges.run_at(sector).kind, Some(Kind::Free | Kind::Bad));
        if !self.find_nodes() || !is_free(&self.ranges) {
            return Err(Verdict::NoSpace);
        }
        self.reserve_full_log_block()?;
        if !is_free(&self.ranges) {
            // It was the last free block.
            return Err(Verdict::NoSpace);
        }
        let bounds = self.space.bounds_of_grant(sector, self.sectors);
        let block = self.block.sectors();
        let (span, size) = self.grants.choose(sector, block, &bounds, &self.ranges);
        self.grants.begin(&span, size);
        for _ in 0..NODES_PER_GRANT {
            self.ranges.set_node_aside();
        }
        self.chain.expect_entry();
        let end = span.end;
        batch.push_grant(span);
        Ok(end)
    }

    /// Returns the span with this number of a short list that covers all that was granted.
    pub fn granted_span(&self, number: usize) -> Option<Span<u64>> {
        self.grants.granted.spans().get(number).cloned()
    }

    /// Takes back the sectors of `span`, which are writable and granted, and to which nobody has written nor will
    /// write before another grant: they are free again. Returns whether there were tree nodes for that.
    pub fn take_back(&mut self, span: Span<u64>) -> bool {
        if !self.ranges.has_nodes() || self.ranges.set(span.clone(), Kind::Free).is_err() {
            return false;
        }
        self.space.freed_below(span.end);
        true
    }
}
