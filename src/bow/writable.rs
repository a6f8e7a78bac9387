// SPDX-License-Identifier: GPL-2.0

//! Use of the [map of writable blocks](super::writable_map): writes that pass, blocks that become writable or
//! cease to be.

use super::{
    writable_word::FirstWrites,
    Bio,
    Bow, //
};
use crate::abstractions::srcu::Ticket;
use core::ops::Range;
use kernel::sync::atomic::ordering::{
    Full,
    Relaxed, //
};

impl Bow {
    /// Returns whether all blocks that a write to `span` touches are writable, and counts the prefetched
    /// ones.
    // Always inline: every write of state 1 comes by here, and a call costs a tenth of what it does.
    #[inline(always)]
    pub(super) fn is_writable(&self, span: &Range<u64>, ticket: &Ticket) -> bool {
        let Some(writable) = self.in_flight.get(ticket) else {
            return false;
        };
        let (admitted, first) = writable.admit(span);
        self.count_first_writes(first);
        admitted
    }

    /// Counts blocks that had their first write, or were discarded before.
    #[inline]
    fn count_first_writes(&self, first: FirstWrites) {
        if first.prefetched > 0 {
            self.hits.add(first.prefetched, Relaxed);
        }
        if first.granted > 0 {
            self.granted.fetch_sub(first.granted, Relaxed);
        }
    }

    /// Marks all blocks of `span`, which was free, as granted. Called by the worker only.
    pub(super) fn mark_granted(&self, span: &Range<u64>) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            // Counted first, with a barrier, since a writer may be faster.
            let blocks = self
                .block
                .number(self.block.up(span.end) - self.block.down(span.start));
            self.granted.fetch_add(blocks, Full);
            let set = writable.set_granted(span);
            self.granted.fetch_sub(blocks.saturating_sub(set), Relaxed);
        }
        drop(ticket);
    }

    /// Takes granted blocks of `span` back: [`WritableMap::take_back`](super::writable_map::WritableMap::take_back). Called by the worker only.
    pub(super) fn take_back(&self, span: &Range<u64>, mut taken: impl FnMut(Range<u64>) -> bool) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            writable.take_back(span, |span| {
                let blocks = self.block.number(span.end - span.start);
                let is_taken = taken(span);
                if is_taken {
                    self.granted.fetch_sub(blocks, Relaxed);
                }
                is_taken
            });
        }
        drop(ticket);
    }

    /// Marks all blocks that each span touches as writable, and the blocks of its two parts as prefetched.
    /// Called by the worker only.
    pub(super) fn mark_writable(
        &self,
        spans: impl IntoIterator<Item = (Range<u64>, [Range<u64>; 2])>,
    ) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            for (span, parts) in spans {
                writable.set(&span);
                parts.iter().for_each(|span| writable.set_prefetched(span));
            }
        }
        drop(ticket);
    }

    /// Marks all blocks that `span` touches as not writable. Called by the worker only.
    pub(super) fn mark_unwritable(&self, span: &Range<u64>) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            self.count_first_writes(writable.clear(span));
        }
        drop(ticket);
    }

    /// Submits a deferred write if the map has all its blocks as writable; otherwise returns the write.
    pub(super) fn submit_if_writable(&self, bio: Bio) -> Option<Bio> {
        let ticket = self.in_flight.enter();
        if self.is_writable(&bio.span(), &ticket) {
            self.submit(bio, ticket);
            return None;
        }
        drop(ticket);
        Some(bio)
    }

    /// Submits a deferred write all of whose blocks are writable according to the range tree.
    pub(super) fn submit_writable(&self, bio: Bio) {
        let Some(bio) = self.submit_if_writable(bio) else {
            return;
        };
        // The blocks were free until now; or there was no memory for their page of the map, and may be none
        // again.
        self.mark_writable([(bio.span(), [0..0, 0..0])]);
        if let Some(bio) = self.submit_if_writable(bio) {
            self.submit(bio, self.in_flight.enter());
        }
    }
}
