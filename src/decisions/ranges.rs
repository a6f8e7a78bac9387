// SPDX-License-Identifier: GPL-2.0

//! The range tree: the kind of every sector of the device.
//!
//! The [`RangeTree`] alone says what the device holds in states 0 and 1. It maps half-open sector ranges to a
//! [`Kind`]. A sector in no range is *unchanged*: it holds what it held at the checkpoint, and has no backup.
//!
//! # Invariants
//!
//! - Ranges are not empty and do not overlap.
//! - Two ranges that touch and are of the same mergeable kind are one range
//!   ([`Kind::is_mergeable`]).
//! - `totals[kind]` is the sum of the lengths of all ranges of that kind.
//!
//! Ranges are keyed by their *end*. The range that contains a sector, or else the next range, is then a
//! single lower-bound search, and all changes at a range's start (growing the range, taking blocks from its
//! front, merging it with its left neighbour) are made in place.
//!
//! # Memory
//!
//! A node is 48 bytes and comes from a 64-byte slab. Changes take their nodes from a stock ([`Nodes`]) that
//! is filled beforehand, so that no change allocates.

use core::ops::Range as Span;
use kernel::{
    alloc::Flags,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
};

/// Kind of a range of sectors: what the sectors hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Free at the checkpoint and not written since; or freed since, and no write to it can still be in
    /// flight. Backups are placed here.
    Free,
    /// Free, but a backup could not be written there. No other is placed there, unless the space is discarded.
    Bad,
    /// Writable: a write needs no backup and goes straight to the underlying device.
    Writable,
    /// Was writable and then discarded. A write that began before the discard may still be in flight, so this
    /// is not [`Kind::Free`] yet.
    Discarded,
    /// Discarded before the drain in progress began; free when the drain ends.
    Draining,
    /// Holds a backup, or a full log block.
    Backup,
    /// Holds the relocated first block of the device.
    FirstBlock,
    /// Source of a copy that has not ended. Each copy has a range of its own.
    Copying,
    /// Adjacent destinations of copies that have not ended, or the place of a full log block.
    Reserved,
}

/// Number of kinds.
const KINDS: usize = 9;

impl Kind {
    /// Returns whether neighbouring ranges of this kind are merged into one.
    ///
    /// Ranges of copies that have not ended are not, so that the end of each copy is one change in place.
    const fn is_mergeable(self) -> bool {
        !matches!(self, Kind::FirstBlock | Kind::Copying | Kind::Reserved)
    }
}

/// Maximal run of sectors of one kind. `kind` is [`None`] for unchanged sectors; the last run of unchanged
/// sectors ends at [`u64::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First sector.
    pub start: u64,
    /// One past the last sector.
    pub end: u64,
    /// Kind of the sectors.
    pub kind: Option<Kind>,
}

/// Value of a tree node. The key is the end of the range.
struct Value {
    start: u64,
    kind: Kind,
}

/// Memory of a tree node.
type Node = RBTreeNodeReservation<u64, Value>;

/// Stock of tree nodes, filled where waiting for memory is harmless and used where it is not.
///
/// The stock has room for the nodes of one [`RangeTree::set`] beyond `limit`, since that function gives nodes
/// back before it takes any.
pub struct Nodes {
    stock: KVec<Node>,
    limit: usize,
}

impl Nodes {
    /// Creates an empty stock that will hold up to `limit` nodes.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the list of `limit` pointers cannot be allocated.
    pub fn new(limit: usize, flags: Flags) -> Result<Self> {
        Ok(Self {
            stock: KVec::with_capacity(limit.saturating_add(RangeTree::NODES_PER_SET), flags)?,
            limit,
        })
    }

    /// Returns the number of nodes in stock.
    pub fn len(&self) -> usize {
        self.stock.len()
    }

    /// Allocates nodes until the stock has `limit` nodes. Sleeps if `flags` allow it.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if an allocation with `flags` fails; nodes allocated before stay in stock.
    pub fn fill(&mut self, flags: Flags) -> Result {
        while self.stock.len() < self.limit {
            let node = Node::new(flags)?;
            self.put(node);
        }
        Ok(())
    }

    /// Takes nodes from `spare` until the stock has `limit` nodes or `spare` is empty.
    pub fn top_up(&mut self, spare: &mut Self) {
        while self.stock.len() < self.limit {
            let Some(node) = spare.stock.pop() else {
                return;
            };
            self.put(node);
        }
    }

    /// Takes all nodes away into another stock, leaving one that holds none.
    pub fn take_all(&mut self) -> Self {
        let none = Self {
            stock: KVec::new(),
            limit: 0,
        };
        core::mem::replace(self, none)
    }

    /// Gives a node back, or frees it if there is no room.
    fn put(&mut self, node: Node) {
        // A node that does not fit is dropped with the error.
        let _ = self.stock.push_within_capacity(node);
    }

    /// Takes a node.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if the stock is empty.
    fn take(&mut self) -> Result<Node> {
        self.stock.pop().ok_or(ENOMEM)
    }
}

/// Number of sectors of each kind.
struct Totals([u64; KINDS]);

impl Totals {
    /// Adds `sectors` to the total of `kind`.
    fn add(&mut self, kind: Kind, sectors: u64) {
        if let Some(total) = self.0.get_mut(kind as usize) {
            *total = total.wrapping_add(sectors);
        }
    }

    /// Subtracts `sectors` from the total of `kind`.
    fn subtract(&mut self, kind: Kind, sectors: u64) {
        if let Some(total) = self.0.get_mut(kind as usize) {
            *total = total.wrapping_sub(sectors);
        }
    }
}

/// Kinds of all sectors. See the [module](self) for its invariants.
pub struct RangeTree {
    tree: RBTree<u64, Value>,
    totals: Totals,
    ranges: usize,
}

impl RangeTree {
    /// Maximum number of nodes that one [`set`](Self::set) takes from the stock.
    pub const NODES_PER_SET: usize = 2;

    /// Creates a tree in which every sector is unchanged.
    pub fn new() -> Self {
        // INVARIANT: There are no ranges.
        Self {
            tree: RBTree::new(),
            totals: Totals([0; KINDS]),
            ranges: 0,
        }
    }

    /// Returns the number of sectors of `kind`.
    pub fn total(&self, kind: Kind) -> u64 {
        self.totals.0.get(kind as usize).copied().unwrap_or(0)
    }

    /// Returns the number of ranges.
    pub fn len(&self) -> usize {
        self.ranges
    }

    /// Returns the run that contains `sector`, from the start of the run to its end. O(log n).
    pub fn run_at(&self, sector: u64) -> Run {
        let Some(cursor) = self.lower_bound(sector) else {
            let start = self
                .tree
                .cursor_back()
                .map_or(0, |cursor| *cursor.current().0);
            return Run {
                start,
                end: u64::MAX,
                kind: None,
            };
        };
        let (&end, value) = cursor.current();
        if value.start <= sector {
            return Run {
                start: value.start,
                end,
                kind: Some(value.kind),
            };
        }
        Run {
            start: cursor.peek_prev().map_or(0, |(&end, _)| end),
            end: value.start,
            kind: None,
        }
    }

    /// Returns whether a range has sectors of `span`. O(log n).
    pub fn touches(&self, span: &Span<u64>) -> bool {
        self.lower_bound(span.start)
            .is_some_and(|cursor| cursor.current().1.start < span.end)
    }

    /// Returns the last range of `kind` that starts below `sector`. O(log n + the ranges passed over).
    pub fn last_below(&mut self, sector: u64, kind: Kind) -> Option<Run> {
        let last = match self.lower_bound(sector) {
            Some(cursor) => *cursor.current().0,
            None => *self.tree.cursor_back()?.current().0,
        };
        let mut cursor = self.tree.cursor_lower_bound_mut(&last)?;
        loop {
            let (&end, value) = cursor.current();
            if value.kind == kind && value.start < sector {
                return Some(Run {
                    start: value.start,
                    end,
                    kind: Some(kind),
                });
            }
            cursor = cursor.move_prev()?;
        }
    }

    /// Returns the first range that ends after `sector` and for which `wanted` returns `true`.
    /// O(log n + the ranges passed over).
    pub fn first_from(&mut self, sector: u64, mut wanted: impl FnMut(&Run) -> bool) -> Option<Run> {
        let mut cursor = self.tree.cursor_lower_bound_mut(&sector.checked_add(1)?)?;
        loop {
            let (&end, value) = cursor.current();
            let run = Run {
                start: value.start,
                end,
                kind: Some(value.kind),
            };
            if wanted(&run) {
                return Some(run);
            }
            cursor = cursor.move_next()?;
        }
    }

    /// Calls `visit` with each range that ends after `sector`, lowest first, until `visit` returns `false`.
    /// O(log n + the ranges visited).
    pub fn visit_from(&mut self, sector: u64, mut visit: impl FnMut(&Run) -> bool) {
        // Nothing is looked for, so that `visit` ends it.
        let _ = self.first_from(sector, |run| !visit(run));
    }

    /// Makes all sectors of `span` of `kind`; [`None`] is unchanged. O(log n + the ranges in `span`).
    ///
    /// # Errors
    ///
    /// `ENOMEM` if fewer than [`NODES_PER_SET`](Self::NODES_PER_SET) nodes are in stock; nothing has changed
    /// then.
    pub fn set(&mut self, span: Span<u64>, kind: Option<Kind>, nodes: &mut Nodes) -> Result {
        if span.is_empty() {
            return Ok(());
        }
        if nodes.len() < Self::NODES_PER_SET {
            return Err(ENOMEM);
        }
        let Some(kind) = kind else {
            return self.clear(&span, nodes);
        };
        self.clear(&span, nodes)?;
        let mut start = span.start;
        if kind.is_mergeable() {
            // The range that ends where the span starts, or else the next one.
            let mut next = self.tree.cursor_lower_bound_mut(&span.start);
            if let Some(left) = next.take_if(|cursor| *cursor.current().0 == span.start) {
                let (joins, left_start) = {
                    let value = left.current().1;
                    (value.kind == kind, value.start)
                };
                if joins {
                    start = left_start;
                    let (rest, node) = left.remove_current();
                    nodes.put(node.into_reservation());
                    self.ranges -= 1;
                    self.totals.subtract(kind, span.start - start);
                    next = rest;
                } else {
                    next = left.move_next();
                }
            }
            if let Some(mut right) = next {
                let (_, right) = right.current_mut();
                if right.start == span.end && right.kind == kind {
                    right.start = start;
                    self.totals.add(kind, span.end - start);
                    return Ok(());
                }
            }
        }
        self.insert(start..span.end, kind, nodes.take()?);
        Ok(())
    }

    /// Does the same as [`set`](Self::set), but faster if `span` is one whole range, as when a copy ends.
    ///
    /// # Errors
    ///
    /// Those of [`set`](Self::set).
    pub fn change(&mut self, span: Span<u64>, kind: Option<Kind>, nodes: &mut Nodes) -> Result {
        match kind {
            Some(kind) if self.change_whole(&span, kind, nodes) => Ok(()),
            _ => self.set(span, kind, nodes),
        }
    }

    /// Makes all sectors of `span` of `kind` if they are one whole range. Takes one search, and no further
    /// one to merge the range with its neighbours. Returns whether they were one whole range.
    fn change_whole(&mut self, span: &Span<u64>, kind: Kind, nodes: &mut Nodes) -> bool {
        let Some(mut cursor) = self.tree.cursor_lower_bound_mut(&span.end) else {
            return false;
        };
        let (&end, value) = cursor.current_mut();
        if end != span.end || value.start != span.start {
            return false;
        }
        self.totals.subtract(value.kind, end - value.start);
        value.kind = kind;
        self.totals.add(kind, end - value.start);
        if !kind.is_mergeable() {
            return true;
        }
        let left = cursor
            .peek_prev()
            .filter(|(&left_end, left)| left_end == span.start && left.kind == kind)
            .map(|(_, left)| left.start);
        if let Some(start) = left {
            if let Some(node) = cursor.remove_prev() {
                nodes.put(node.into_reservation());
                self.ranges -= 1;
            }
            cursor.current_mut().1.start = start;
        }
        let start = cursor.current().1.start;
        if let Some((_, right)) = cursor
            .peek_next_mut()
            .filter(|(_, right)| right.start == span.end && right.kind == kind)
        {
            right.start = start;
            let (_, node) = cursor.remove_current();
            nodes.put(node.into_reservation());
            self.ranges -= 1;
        }
        true
    }

    /// Changes the kind of every range, of kind `kind`, to `new(kind)`, and frees the nodes that are not needed any
    /// more. O(n).
    pub fn change_all(&mut self, new: impl Fn(Kind) -> Option<Kind>) {
        let mut next = self.tree.cursor_front_mut();
        while let Some(mut cursor) = next {
            let (&end, value) = cursor.current_mut();
            let (start, kind) = (value.start, value.kind);
            self.totals.subtract(kind, end - start);
            let Some(kind) = new(kind) else {
                let (rest, _) = cursor.remove_current();
                self.ranges -= 1;
                // After the last range of the tree, `remove_current` returns the one before it.
                next = rest.filter(|rest| *rest.current().0 > end);
                continue;
            };
            value.kind = kind;
            self.totals.add(kind, end - start);
            let joins = |left_end: u64, left: &Value| {
                kind.is_mergeable() && left_end == start && left.kind == kind
            };
            let left = cursor
                .peek_prev()
                .filter(|(&left_end, left)| joins(left_end, left))
                .map(|(_, left)| left.start);
            if let Some(start) = left {
                let _ = cursor.remove_prev();
                self.ranges -= 1;
                cursor.current_mut().1.start = start;
            }
            next = cursor.move_next();
        }
    }

    /// Makes all sectors of `run`, which is a whole range, unchanged. Takes no node from the stock.
    pub fn forget(&mut self, run: &Run, nodes: &mut Nodes) {
        let Some(kind) = run.kind else {
            return;
        };
        if let Some(node) = self.tree.remove_node(&run.end) {
            nodes.put(node.into_reservation());
            self.ranges -= 1;
            self.totals.subtract(kind, run.end - run.start);
        }
    }

    /// Makes the sectors of up to `most` ranges that lie within `span` unchanged, lowest first. Takes no node
    /// from the stock. Returns whether no such range is left. O(log n + `most`).
    pub fn forget_within(&mut self, span: &Span<u64>, most: usize, nodes: &mut Nodes) -> bool {
        let Some(first) = span.start.checked_add(1) else {
            return true;
        };
        let mut next = self.tree.cursor_lower_bound_mut(&first);
        if next
            .as_ref()
            .is_some_and(|cursor| cursor.current().1.start < span.start)
        {
            next = next.and_then(|cursor| cursor.move_next());
        }
        let mut left = most;
        while let Some(cursor) = next {
            let (&end, value) = cursor.current();
            // After the last range of the tree, `remove_current` returns the one before it.
            if end > span.end || value.start < span.start {
                break;
            }
            if left == 0 {
                return false;
            }
            left -= 1;
            self.totals.subtract(value.kind, end - value.start);
            let (rest, node) = cursor.remove_current();
            nodes.put(node.into_reservation());
            self.ranges -= 1;
            next = rest;
        }
        true
    }

    /// Makes all sectors of `span` unchanged.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if a range has to be divided and no node is in stock.
    fn clear(&mut self, span: &Span<u64>, nodes: &mut Nodes) -> Result {
        let Some(first) = span.start.checked_add(1) else {
            return Ok(());
        };
        while let Some(mut cursor) = self.tree.cursor_lower_bound_mut(&first) {
            let (&end, value) = cursor.current_mut();
            let (start, kind) = (value.start, value.kind);
            if start >= span.end {
                break;
            }
            if end > span.end {
                value.start = span.end;
                self.totals.subtract(kind, span.end - start);
            } else {
                let (_, node) = cursor.remove_current();
                nodes.put(node.into_reservation());
                self.ranges -= 1;
                self.totals.subtract(kind, end - start);
            }
            if start < span.start {
                self.insert(start..span.start, kind, nodes.take()?);
            }
            if end >= span.end {
                break;
            }
        }
        Ok(())
    }

    /// Returns a cursor to the range that contains `sector`, or else to the next range.
    fn lower_bound(&self, sector: u64) -> Option<kernel::rbtree::Cursor<'_, u64, Value>> {
        self.tree.cursor_lower_bound(&sector.checked_add(1)?)
    }

    /// Inserts a range that neither overlaps another one nor has to be merged with one.
    fn insert(&mut self, span: Span<u64>, kind: Kind, node: Node) {
        let value = Value {
            start: span.start,
            kind,
        };
        // INVARIANT: The caller ensures that the range overlaps none and touches none that it would merge
        // with. Its length is added to the total of its kind.
        self.tree.insert(node.into_node(span.end, value));
        self.ranges += 1;
        self.totals.add(kind, span.end - span.start);
    }

    /// Panics if an invariant of the [module](self) is broken.
    #[cfg(test)]
    pub fn check(&self) {
        let mut totals = [0; KINDS];
        let mut previous: Option<(u64, Kind)> = None;
        let mut ranges = 0;
        for (&end, value) in self.tree.iter() {
            assert!(value.start < end);
            if let Some((previous_end, previous_kind)) = previous {
                assert!(previous_end <= value.start, "overlap at {}", value.start);
                assert!(
                    previous_end < value.start
                        || previous_kind != value.kind
                        || !value.kind.is_mergeable(),
                    "not merged at {}",
                    value.start
                );
            }
            totals[value.kind as usize] += end - value.start;
            previous = Some((end, value.kind));
            ranges += 1;
        }
        assert_eq!(totals, self.totals.0);
        assert_eq!(ranges, self.ranges);
    }
}
