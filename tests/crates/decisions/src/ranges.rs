// SPDX-License-Identifier: GPL-2.0

//! The range tree against one cell a sector.

use kernel::prelude::{ENOMEM, GFP_KERNEL};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::decisions::ranges::{Kind, Nodes, RangeTree, Run};

/// Sectors of the model.
const SECTORS: u64 = 64;

pub(super) const KINDS: [Kind; 7] = [
    Kind::Free,
    Kind::Writable,
    Kind::Discarded,
    Kind::Backup,
    Kind::FirstBlock,
    Kind::Copying,
    Kind::Reserved,
];

/// Returns a stock that is full.
pub(super) fn stock() -> Nodes {
    let mut nodes = Nodes::new(8, GFP_KERNEL).unwrap();

    nodes.fill(GFP_KERNEL).unwrap();
    nodes
}

fn kind() -> impl Strategy<Value = Option<Kind>> {
    proptest::option::weighted(0.8, proptest::sample::select(KINDS.to_vec()))
}

pub(super) fn span() -> impl Strategy<Value = core::ops::Range<u64>> {
    (0..SECTORS, 0..12u64).prop_map(|(start, len)| start..(start + len).min(SECTORS))
}

/// Returns the kind of a sector.
fn kind_at(tree: &RangeTree, sector: u64) -> Option<Kind> {
    tree.run_at(sector).kind
}

fn runs(tree: &mut RangeTree) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut position = 0;

    while let Some(run) = tree.first_from(position, |_| true) {
        position = run.end;
        runs.push(run);
    }
    runs
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tree_is_one_cell_a_sector(ops in vec((span(), kind(), any::<bool>()), 0..60), forget in vec(0..SECTORS, 0..3)) {
        let mut tree = RangeTree::new();
        let mut cells = [None; SECTORS as usize];

        for (span, kind, whole) in ops {
            let run = tree.run_at(span.start);
            let span = if whole && run.kind.is_some() { run.start..run.end } else { span };
            // Never more than `NODES_PER_SET` are there to take.
            let mut nodes = Nodes::new(RangeTree::NODES_PER_SET, GFP_KERNEL).unwrap();
            nodes.fill(GFP_KERNEL).unwrap();
            let result = if whole {
                tree.change(span.clone(), kind, &mut nodes)
            } else {
                tree.set(span.clone(), kind, &mut nodes)
            };
            prop_assert!(result.is_ok());
            cells[span.start as usize..span.end as usize].fill(kind);
            tree.check();
        }
        for sector in forget {
            let run = tree.run_at(sector);

            tree.forget(&run, &mut stock());
            if run.kind.is_some() {
                cells[run.start as usize..run.end as usize].fill(None);
            }
            tree.check();
        }

        for (sector, kind) in cells.iter().enumerate() {
            let sector = sector as u64;
            let run = tree.run_at(sector);

            prop_assert_eq!(run.kind, *kind);
            prop_assert!(run.start <= sector && sector < run.end);
            for inside in run.start..run.end.min(SECTORS) {
                prop_assert_eq!(cells[inside as usize], run.kind);
            }
        }
        for kind in KINDS {
            let sectors = cells.iter().filter(|cell| **cell == Some(kind)).count();
            prop_assert_eq!(tree.total(kind), sectors as u64);
        }
    }

    #[test]
    fn searches_find_the_nearest(ops in vec((span(), kind()), 0..40), sector in 0..SECTORS + 2, wanted in 0..7usize) {
        let mut tree = RangeTree::new();
        let kind = KINDS[wanted];

        for (span, kind) in ops {
            tree.set(span, kind, &mut stock()).unwrap();
        }
        let all = runs(&mut tree);
        prop_assert_eq!(all.len(), tree.len());
        let below = all.iter().rfind(|run| run.kind == Some(kind) && run.start < sector);
        prop_assert_eq!(tree.last_below(sector, kind), below.copied());
        let from = all.iter().find(|run| run.kind == Some(kind) && run.end > sector);
        let found = tree.first_from(sector, |run| run.kind == Some(kind));
        prop_assert_eq!(found, from.copied());
    }

    /// Without nodes nothing changes.
    #[test]
    fn no_node_no_change(ops in vec((span(), kind()), 0..40), last in (span(), kind()), nodes in 0..RangeTree::NODES_PER_SET) {
        let mut tree = RangeTree::new();

        for (span, kind) in ops {
            tree.set(span, kind, &mut stock()).unwrap();
        }
        let before: Vec<_> = (0..SECTORS).map(|sector| kind_at(&tree, sector)).collect();
        let mut empty = Nodes::new(nodes, GFP_KERNEL).unwrap();
        empty.fill(GFP_KERNEL).unwrap();

        if !last.0.is_empty() {
            prop_assert_eq!(tree.set(last.0, last.1, &mut empty), Err(ENOMEM));
        }
        tree.check();
        let after: Vec<_> = (0..SECTORS).map(|sector| kind_at(&tree, sector)).collect();
        prop_assert_eq!(before, after);
    }
}

#[test]
fn the_ends_of_the_address_space() {
    let mut tree = RangeTree::new();
    let mut nodes = stock();

    assert_eq!(
        tree.run_at(0),
        Run {
            start: 0,
            end: u64::MAX,
            kind: None
        }
    );
    let far = u64::MAX - 8..u64::MAX - 1;
    tree.set(far.clone(), Some(Kind::Free), &mut nodes).unwrap();
    assert_eq!(tree.run_at(u64::MAX - 3).kind, Some(Kind::Free));
    assert_eq!(tree.run_at(u64::MAX).kind, None);
    assert_eq!(tree.total(Kind::Free), far.end - far.start);
    tree.check();
}

/// A stock that cannot be filled keeps what it got.
#[test]
fn a_stock_that_runs_short_of_memory() {
    let mut nodes = Nodes::new(8, GFP_KERNEL).unwrap();
    let injection = kernel::inject::fail_nth(3);

    assert_eq!(nodes.fill(GFP_KERNEL), Err(ENOMEM));
    assert!(injection.hit());
    assert_eq!(nodes.len(), 3);
    nodes.fill(GFP_KERNEL).unwrap();
    assert_eq!(nodes.len(), 8);

    let mut other = Nodes::new(20, GFP_KERNEL).unwrap();
    other.top_up(&mut nodes);
    assert_eq!((other.len(), nodes.len()), (8, 0));
}
