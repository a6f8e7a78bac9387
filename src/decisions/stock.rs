// SPDX-License-Identifier: GPL-2.0

//! Range tree of a checkpoint together with its stock of nodes.
//!
//! No decision waits for memory. Tree nodes come from the stock. When that is empty and cannot be filled, what
//! is optional is left out; for what is not, free ranges are forgotten and their nodes used. Each copy sets
//! one node of the stock aside until it ends: if copies fail, the range that holds the destinations of several
//! is divided.

use super::{
    batch::COPIES_MAX,
    ranges::{
        Kind,
        Nodes,
        RangeTree, //
    },
};
use core::ops::Range as Span;
use kernel::{
    alloc::{
        flags,
        Flags, //
    },
    prelude::*,
};

/// Nodes that one copy can take: for its source, and for the destinations of those before it.
const NODES_PER_COPY: usize = 2 * RangeTree::NODES_PER_SET;

/// Nodes kept in stock.
const NODES_STOCK: usize = 8 * COPIES_MAX;

/// Nodes without which nothing is decided, beside those that are set aside: for a copy, for a full log block,
/// for the destinations of the batch, and for the end of a copy, which gives back what it takes.
const NODES_LOW: usize = NODES_PER_COPY + 3 * RangeTree::NODES_PER_SET;

/// Range tree with the stock that its changes take nodes from.
pub struct Ranges {
    tree: RangeTree,
    nodes: Nodes,
    /// Number of nodes set aside.
    set_aside: usize,
}

impl Ranges {
    /// Allocates a full stock.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn stock(flags: Flags) -> Result<Nodes> {
        let mut nodes = Nodes::new(NODES_STOCK, flags)?;
        nodes.fill(flags)?;
        Ok(nodes)
    }

    /// Combines a tree and a [stock](Self::stock).
    pub fn new(tree: RangeTree, nodes: Nodes) -> Self {
        Self {
            tree,
            nodes,
            set_aside: 0,
        }
    }

    /// Takes the tree away, leaving an empty one.
    pub fn take(&mut self) -> RangeTree {
        core::mem::replace(&mut self.tree, RangeTree::new())
    }

    /// Sets one node aside, for the end of a copy.
    pub fn set_node_aside(&mut self) {
        self.set_aside += 1;
    }

    /// Makes a node that was set aside available, since its copy ends.
    pub fn release_node(&mut self) {
        self.set_aside = self.set_aside.saturating_sub(1);
    }

    /// Fills the stock if it is less than half full. Sleeps if `flags` allow it.
    pub fn replenish(&mut self, flags: Flags) {
        if self.nodes.len() < NODES_STOCK / 2 {
            // If this fails, the nodes left are enough for now, or `find_nodes` finds some.
            let _ = self.nodes.fill(flags);
        }
    }

    /// Returns whether there are enough nodes for a decision.
    pub fn has_nodes(&self) -> bool {
        self.nodes.len() >= NODES_LOW.saturating_add(self.set_aside)
    }

    /// Finds nodes for a decision: allocates some if need be, and if there are none, calls `before` and then
    /// forgets free ranges, lowest first, to have their nodes. Does not sleep. Returns whether there are enough.
    pub fn find_nodes(&mut self, before: impl FnOnce(&mut Self)) -> bool {
        if !self.has_nodes() {
            self.replenish(flags::GFP_NOWAIT | flags::__GFP_NOWARN);
        }
        if self.has_nodes() {
            return true;
        }
        before(self);
        let mut position = 0;
        while !self.has_nodes() && self.total(Kind::Free) > 0 {
            let free = self.first_from(position, |run| run.kind == Some(Kind::Free));
            let Some(run) = free else {
                break;
            };
            position = run.end;
            self.tree.forget(&run, &mut self.nodes);
        }
        self.has_nodes()
    }

    /// Calls [`RangeTree::set`].
    ///
    /// # Errors
    ///
    /// Those of [`RangeTree::set`].
    pub fn set(&mut self, span: Span<u64>, kind: Kind) -> Result {
        self.tree.set(span, Some(kind), &mut self.nodes)
    }

    /// Calls [`RangeTree::change`].
    ///
    /// # Errors
    ///
    /// Those of [`RangeTree::change`].
    pub fn change(&mut self, span: Span<u64>, kind: Option<Kind>) -> Result {
        self.tree.change(span, kind, &mut self.nodes)
    }
}

impl core::ops::Deref for Ranges {
    type Target = RangeTree;

    fn deref(&self) -> &RangeTree {
        &self.tree
    }
}

impl core::ops::DerefMut for Ranges {
    fn deref_mut(&mut self) -> &mut RangeTree {
        &mut self.tree
    }
}
