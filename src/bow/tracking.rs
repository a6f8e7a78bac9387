// SPDX-License-Identifier: GPL-2.0

//! States 0 and 2: the record of free space, kept by all writers.

use super::{
    Bio,
    Bow, //
};
use crate::{
    abstractions::block::bio::Operation,
    decisions::{
        free_space::FreeSpace,
        ranges::{
            Nodes,
            RangeTree, //
        },
    },
};
use core::ops::Range;
use kernel::prelude::*;

/// Maximum number of free ranges that are forgotten while the lock of the record is held once.
const PIECE: usize = 64;

/// Record of free space, with tree nodes for its changes.
pub(super) struct Tracker {
    pub(super) space: FreeSpace,
    pub(super) nodes: Nodes,
}

impl Tracker {
    /// Number of tree nodes kept in stock, for changes for which none can be allocated.
    pub(super) const NODES: usize = 4 * RangeTree::NODES_PER_SET;

    /// Creates the record of a device of which no sector is known to be free.
    pub(super) fn new(nodes: Nodes) -> Self {
        Self {
            space: FreeSpace::new(),
            nodes,
        }
    }

    /// Returns the number of free sectors, and the number of ranges that they form.
    pub(super) fn figures(&self) -> (u64, usize) {
        (self.space.sectors(), self.space.ranges())
    }
}

impl Bow {
    /// Keeps the record of free space in states 0 and 2, for a bio whose ticket the caller holds. Returns
    /// whether the bio is to be sent to the underlying device, with the ticket, so that a checkpoint waits for
    /// its completion; otherwise it is a discard that is not passed down, and done.
    ///
    /// Does not sleep.
    pub(super) fn track(&self, bio: &Bio) -> bool {
        let span = bio.span();
        match bio.operation() {
            Operation::Write => {
                let touched = self
                    .tracker
                    .lock()
                    .as_ref()
                    .is_some_and(|tracker| tracker.space.is_touched_by(&span));
                if touched {
                    self.record(&span, |tracker| {
                        tracker.space.write(span.clone(), &mut tracker.nodes);
                    });
                }
            }
            Operation::Discard => {
                self.record(&span, |tracker| {
                    // Without nodes the discard is forgotten, which is always safe.
                    let _ = tracker.space.discard(span.clone(), &mut tracker.nodes);
                });
                return !self.no_discard_passdown && self.discards;
            }
            Operation::Read | Operation::Flush => {}
        }
        true
    }

    /// Applies `change`, which concerns `span`, to the record of free space.
    ///
    /// Nodes are allocated before the lock is taken, and without waiting, since the bio may be one that frees
    /// memory. Free space that cannot be recorded is lost.
    ///
    /// The lock is not held for long: the ranges in `span` are forgotten in pieces, and the change itself is
    /// made together with the last piece. Between two pieces less is free than could be, which is safe. Other
    /// bios may change the same sectors meanwhile; they are in flight together with this bio, so there is no
    /// order to keep. The ticket of the bio covers all pieces, so a checkpoint finds no change half made.
    fn record(&self, span: &Range<u64>, change: impl FnOnce(&mut Tracker)) {
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        // If this fails, the nodes in stock have to do.
        let spare = Nodes::new(RangeTree::NODES_PER_SET, flags)
            .and_then(|mut nodes| nodes.fill(flags).map(|()| nodes));
        while let Some(tracker) = &mut *self.tracker.lock() {
            if !tracker.space.forget(span, PIECE, &mut tracker.nodes) {
                continue;
            }
            if let Ok(mut spare) = spare {
                tracker.nodes.top_up(&mut spare);
            }
            return change(tracker);
        }
    }
}
