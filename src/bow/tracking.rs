// SPDX-License-Identifier: GPL-2.0

//! State 0: the record of free space.

use super::{
    map::BioData,
    Bio,
    Bow, //
};
use crate::{
    abstractions::{
        block::bio::{
            Operation,
            Status, //
        },
        srcu::Ticket,
    },
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

/// Ranges of free space that are forgotten while the lock of their record is held once.
const PIECE: usize = 64;

/// State 0: what is free, and nodes for what comes.
pub(super) struct Tracker {
    pub(super) space: FreeSpace,
    pub(super) nodes: Nodes,
}

impl Tracker {
    /// Tree nodes in stock, for when none are to be had.
    pub(super) const NODES: usize = 4 * RangeTree::NODES_PER_SET;

    /// How much is free: sectors, and the ranges that they form.
    pub(super) fn figures(&self) -> (u64, usize) {
        (self.space.sectors(), self.space.ranges())
    }
}

impl Bow {
    /// State 0: keeps the record of free space. Returns the bio if it is to go down, with its
    /// ticket: a checkpoint waits for it.
    pub(super) fn track(&self, mut bio: Bio, ticket: Ticket) -> Option<Bio> {
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
                    // Without nodes the discard is forgotten, which is always allowed.
                    let _ = tracker.space.discard(span.clone(), &mut tracker.nodes);
                });
                drop(ticket);
                bio.end(Status::OK);
                return None;
            }
            Operation::Read | Operation::Flush => {}
        }
        *bio.data() = BioData::Ticket(ticket);
        Some(bio)
    }

    /// Changes the record of free space in `span`, for which it gets nodes before it takes the lock.
    ///
    /// It does not wait for memory: the bio may be what frees some. Free space that cannot be
    /// recorded is lost.
    ///
    /// The lock is not held for long: what `span` holds is forgotten in pieces, and the change itself
    /// made together with the last of them. Between two pieces less is free than could be, which is
    /// safe; others may change the same sectors, but with those bios this one, which has not gone down or
    /// ended yet, has no order. The ticket covers it all, so a checkpoint finds no change half made.
    fn record(&self, span: &Range<u64>, change: impl FnOnce(&mut Tracker)) {
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        // If this fails, the change does with what is in stock.
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
