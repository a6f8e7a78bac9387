// SPDX-License-Identifier: GPL-2.0

//! Free space in state 0 against one bit a sector.

use core::ops::Range;

use kernel::prelude::GFP_KERNEL;
use proptest::collection::vec;
use proptest::prelude::*;

use super::ranges::{span, stock};
use crate::decisions::block_size::BlockSize;
use crate::decisions::free_space::FreeSpace;
use crate::decisions::ranges::{Kind, Nodes};

const SECTORS: u64 = 64;

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn free_space_is_one_bit_a_sector(
        ops in vec((span(), any::<bool>()), 0..60),
        block_size in prop_oneof![Just(512), Just(1024), Just(2048), Just(4096)],
        bounds in (0..16u64, 40..SECTORS + 8),
    ) {
        let mut free = FreeSpace::new();
        let mut bits = [false; SECTORS as usize];

        for (span, discard) in ops {
            let cells = span.start as usize..span.end as usize;

            if discard {
                free.discard(span, &mut stock()).unwrap();
            } else {
                let touched = bits[cells.clone()].contains(&true);
                // It may say so without need, for an empty span, but must not miss any.
                prop_assert!(!touched || free.is_touched_by(&span));
                free.write(span.clone(), &mut stock());
                prop_assert!(span.is_empty() || !free.is_touched_by(&span));
            }
            bits[cells].fill(discard);
            prop_assert_eq!(free.sectors(), bits.iter().filter(|bit| **bit).count() as u64);
        }

        let block = BlockSize::from_bytes(block_size).unwrap();
        let (start, end) = bounds;
        let ranges = free.into_ranges(block, start..end, &mut stock()).unwrap();

        ranges.check();
        // A block is free if all of it is, and it is within the bounds.
        for first in (0..SECTORS).step_by(block.sectors() as usize) {
            let last = first + block.sectors();
            let whole = bits[first as usize..last as usize].iter().all(|bit| *bit)
                && start <= first
                && last <= end;

            for sector in first..last {
                let kind = ranges.run_at(sector).kind;
                prop_assert_eq!(kind == Some(Kind::Free), whole, "sector {}", sector);
                prop_assert!(kind.is_none() || kind == Some(Kind::Free));
            }
        }
    }

    /// Changes in pieces, with others between the pieces. What others say between them of the same
    /// sectors has no order with the change; what it says itself holds in the end.
    #[test]
    fn a_change_in_pieces(
        ops in vec((span(), any::<bool>(), 1..4usize, vec((span(), any::<bool>()), 0..4)), 0..30),
    ) {
        let mut free = FreeSpace::new();
        let mut bits = [false; SECTORS as usize];
        let mut change = |free: &mut FreeSpace, span: &Range<u64>, discard: bool| {
            if discard {
                free.discard(span.clone(), &mut stock()).unwrap();
            } else {
                free.write(span.clone(), &mut stock());
            }
            bits[span.start as usize..span.end as usize].fill(discard);
            bits
        };

        for (span, discard, most, between) in ops {
            let mut between = between.into_iter();

            loop {
                let before = free.ranges();
                let done = free.forget(&span, most, &mut stock());

                prop_assert!(before - free.ranges() <= most);
                if done {
                    break;
                }
                // A piece is a whole one, so that there is an end to it.
                prop_assert_eq!(before - free.ranges(), most);
                if let Some((other, discard)) = between.next() {
                    change(&mut free, &other, discard);
                }
            }
            let before = free.ranges();
            let bits = change(&mut free, &span, discard);

            // At the ends it may join two ranges, or part one.
            prop_assert!(before.abs_diff(free.ranges()) <= 1);
            for sector in 0..SECTORS {
                let is_free = free.is_touched_by(&(sector..sector + 1));

                prop_assert_eq!(is_free, bits[sector as usize], "sector {}", sector);
            }
        }
    }

    /// Without nodes less is free than could be, never more.
    #[test]
    fn without_nodes_space_is_forgotten(
        discards in vec(span(), 0..20),
        writes in vec(span(), 1..10),
    ) {
        let mut free = FreeSpace::new();
        let mut bits = [false; SECTORS as usize];
        let mut empty = Nodes::new(0, GFP_KERNEL).unwrap();

        for span in discards {
            bits[span.start as usize..span.end as usize].fill(true);
            free.discard(span, &mut stock()).unwrap();
        }
        for span in writes {
            bits[span.start as usize..span.end as usize].fill(false);
            free.write(span, &mut empty);
        }
        let block = BlockSize::from_bytes(512).unwrap();
        let ranges = free.into_ranges(block, 0..SECTORS, &mut stock()).unwrap();
        for sector in 0..SECTORS {
            if ranges.run_at(sector).kind.is_some() {
                prop_assert!(bits[sector as usize], "sector {} was written", sector);
            }
        }
    }

    #[test]
    fn rounding(sector in 0..1u64 << 54, shift in 0..4u32) {
        let block = BlockSize::from_bytes(512 << shift).unwrap();
        let size = 1 << shift;

        prop_assert_eq!(block.bytes(), 512 << shift);
        prop_assert_eq!(block.sectors(), size);
        prop_assert_eq!(block.down(sector), sector / size * size);
        prop_assert_eq!(block.up(sector), sector.div_ceil(size) * size);
        prop_assert_eq!(block.number(sector), sector / size);
    }
}
