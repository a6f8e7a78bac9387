// SPDX-License-Identifier: GPL-2.0

//! Which blocks are writable: the map that lets most writes of state 1 pass without a lock.
//!
//! A block that is writable is [`Kind::Changed`](crate::decisions::ranges::Kind::Changed) in the
//! range tree. The reverse need not hold: the map is a cache of the tree, and where memory for it
//! cannot be had, writes take the longer way. Two bits a block, in pages that are made only where
//! something changed: whether it is writable, and whether it is *ahead*, which is to say backed up
//! before it was written. The first write to a block that is ahead is counted: from that the
//! [window](crate::decisions::window) learns.
//!
//! # Concurrency
//!
//! Only the worker changes which blocks are writable. Readers hold a ticket of [`Bow::in_flight`] from
//! before they ask until their write has ended; so once the worker has cleared a bit and waited for the
//! tickets, no write that saw the bit is in flight. Whether a block is ahead is changed by everyone,
//! atomically; nothing but the count depends on it.

use super::{
    Bio,
    Bow, //
};
use crate::{abstractions::srcu::Ticket, decisions::block_size::BlockSize};
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            ordering::Relaxed,
            Atomic, //
        },
        SetOnce, //
    },
};

/// Bits in a word.
const WORD_BITS: u64 = u64::BITS as u64;

/// Args in a page.
const PAGE_WORDS: u64 = 256;

/// Blocks that a page covers.
const PAGE_BLOCKS: u64 = PAGE_WORDS * WORD_BITS;

/// What is known of [`WORD_BITS`] blocks.
struct Word {
    writable: Atomic<u64>,
    ahead: Atomic<u64>,
}

impl Word {
    const fn new() -> Self {
        Self {
            writable: Atomic::new(0),
            ahead: Atomic::new(0),
        }
    }

    /// Makes the blocks of `mask` ahead.
    fn set_ahead(&self, mask: u64) {
        let mut old = self.ahead.load(Relaxed);
        while let Err(now) = self.ahead.cmpxchg(old, old | mask, Relaxed) {
            old = now;
        }
    }

    /// Makes the blocks of `mask` not ahead. Returns how many of them were.
    #[inline]
    fn take_ahead(&self, mask: u64) -> u64 {
        let mut old = self.ahead.load(Relaxed);
        while old & mask != 0 {
            match self.ahead.cmpxchg(old, old & !mask, Relaxed) {
                Ok(_) => return u64::from((old & mask).count_ones()),
                Err(now) => old = now,
            }
        }
        0
    }
}

type Page = KVec<Word>;

/// The writable blocks of a device.
pub(super) struct WritableMap {
    pages: KVVec<SetOnce<Page>>,
    block: BlockSize,
}

impl WritableMap {
    /// Creates the map of a device of `sectors` sectors, in which no block is writable.
    /// `ENOMEM`.
    pub(super) fn new(sectors: u64, block: BlockSize) -> Result<Self> {
        let count = usize::try_from(block.number(block.up(sectors)).div_ceil(PAGE_BLOCKS))?;
        // A device may be too large for it.
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..count {
            pages.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self { pages, block })
    }

    /// The word that has the bit of `block`; none if nothing of its page is writable.
    #[inline]
    fn word(&self, block: u64) -> Option<&Word> {
        let page = self.pages.get((block / PAGE_BLOCKS) as usize)?.as_ref()?;
        page.get((block % PAGE_BLOCKS / WORD_BITS) as usize)
    }

    /// The bits of one word that `count` blocks, at least one, have from `bit` on, as a mask.
    #[inline]
    fn mask(bit: u64, count: u64) -> u64 {
        let count = count.min(WORD_BITS - bit);
        (u64::MAX >> (WORD_BITS - count)) << bit
    }

    #[inline]
    fn blocks(&self, sectors: &Range<u64>) -> Range<u64> {
        self.block.number(sectors.start)..self.block.number(self.block.up(sectors.end))
    }

    /// Calls `visit` with the first block of each word that `sectors` has blocks in, and their bits,
    /// until it returns `false`. Returns whether it never did.
    #[inline]
    fn visit(&self, sectors: &Range<u64>, mut visit: impl FnMut(u64, u64) -> bool) -> bool {
        let blocks = self.blocks(sectors);
        let mut block = blocks.start;
        while block < blocks.end {
            let bit = block % WORD_BITS;
            if !visit(block, Self::mask(bit, blocks.end - block)) {
                return false;
            }
            block += WORD_BITS - bit;
        }
        true
    }

    /// Whether all blocks that `sectors` touches are writable, so that they can be written; and how many
    /// of them were ahead until now.
    #[inline]
    pub(super) fn admit(&self, sectors: &Range<u64>) -> (bool, u64) {
        let mut hits = 0;
        let admitted = self.visit(sectors, |block, mask| match self.word(block) {
            Some(word) if word.writable.load(Relaxed) & mask == mask => {
                hits += word.take_ahead(mask);
                true
            }
            _ => false,
        });
        (admitted, hits)
    }

    /// Marks all blocks that `sectors` touches as writable, except where memory is short.
    pub(super) fn set(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if self.word(block).is_none() && self.make_page(block).is_err() {
                return false;
            }
            if let Some(word) = self.word(block) {
                word.writable
                    .store(word.writable.load(Relaxed) | mask, Relaxed);
            }
            true
        });
    }

    /// Marks all blocks that `sectors` touches, which are writable, as ahead.
    pub(super) fn set_ahead(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                word.set_ahead(mask & word.writable.load(Relaxed));
            }
            true
        });
    }

    /// Marks all blocks that `sectors` touches as not writable. Returns how many of them were ahead.
    pub(super) fn clear(&self, sectors: &Range<u64>) -> u64 {
        let mut hits = 0;
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                hits += word.take_ahead(mask);
                word.writable
                    .store(word.writable.load(Relaxed) & !mask, Relaxed);
            }
            true
        });
        hits
    }

    fn make_page(&self, block: u64) -> Result {
        let slot = self
            .pages
            .get((block / PAGE_BLOCKS) as usize)
            .ok_or(EINVAL)?;
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        let mut page = Page::with_capacity(PAGE_WORDS as usize, flags)?;
        for _ in 0..PAGE_WORDS {
            page.push(Word::new(), flags)?;
        }
        slot.populate(page);
        Ok(())
    }
}

impl Bow {
    /// Whether a write to `span` needs nothing any more; counts its blocks that were backed up ahead.
    #[inline]
    pub(super) fn is_writable(&self, span: &Range<u64>, ticket: &Ticket) -> bool {
        let Some(writable) = self.in_flight.get(ticket) else {
            return false;
        };
        let (admitted, hits) = writable.admit(span);
        if hits > 0 {
            self.hits.add(hits, Relaxed);
        }
        admitted
    }

    /// Marks all blocks that each span touches as writable, and those of its two parts as backed up ahead of
    /// their first write.
    pub(super) fn mark_writable(
        &self,
        spans: impl IntoIterator<Item = (Range<u64>, [Range<u64>; 2])>,
    ) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            for (span, ahead) in spans {
                writable.set(&span);
                ahead.iter().for_each(|span| writable.set_ahead(span));
            }
        }
        drop(ticket);
    }

    /// No block of `span` is writable any more.
    pub(super) fn mark_unwritable(&self, span: &Range<u64>) {
        let ticket = self.in_flight.enter();
        if let Some(writable) = self.in_flight.get(&ticket) {
            self.hits.add(writable.clear(span), Relaxed);
        }
        drop(ticket);
    }

    /// Sends out a write that the worker held if the map knows that it needs nothing any more; else
    /// returns it.
    pub(super) fn submit_if_writable(&self, bio: Bio) -> Option<Bio> {
        let ticket = self.in_flight.enter();
        if self.is_writable(&bio.span(), &ticket) {
            self.submit(bio, ticket);
            return None;
        }
        drop(ticket);
        Some(bio)
    }

    /// Sends out a write that the worker held and that needs nothing any more.
    pub(super) fn submit_writable(&self, bio: Bio) {
        let Some(bio) = self.submit_if_writable(bio) else {
            return;
        };
        // Free space that was written, or there was no memory for the map, and may be none now.
        self.mark_writable([(bio.span(), [0..0, 0..0])]);
        if let Some(bio) = self.submit_if_writable(bio) {
            self.submit(bio, self.in_flight.enter());
        }
    }
}

#[kunit_tests(dm_bow_writable)]
mod tests {
    use super::*;
    use crate::decisions::log::SECTOR_SIZE;

    const SECTORS: u64 = 2 * PAGE_BLOCKS + 200;

    /// The same by a list of blocks.
    struct Naive(KVVec<bool>);

    impl Naive {
        fn set(&mut self, range: &Range<u64>, value: bool) {
            for block in self
                .0
                .iter_mut()
                .take(range.end as usize)
                .skip(range.start as usize)
            {
                *block = value;
            }
        }

        fn contains(&self, range: &Range<u64>) -> bool {
            let range = range.start as usize..range.end as usize;
            self.0
                .get(range)
                .is_some_and(|blocks| blocks.iter().all(|&block| block))
        }
    }

    /// A range near where words and pages end.
    fn range(number: u64) -> Range<u64> {
        let mut seed = number;
        let mut next = |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let border = match next(4) {
            0 => 0,
            1 => WORD_BITS * next(4),
            2 => PAGE_BLOCKS,
            _ => 2 * PAGE_BLOCKS,
        };
        let start = (border + next(140)).saturating_sub(70).min(SECTORS - 1);
        let length = 1 + match next(3) {
            0 => next(3),
            1 => next(2 * WORD_BITS),
            _ => next(PAGE_BLOCKS),
        };
        start..(start + length).min(SECTORS)
    }

    #[test]
    fn settled_as_a_naive_list() -> Result {
        let block = BlockSize::from_bytes(SECTOR_SIZE as u32).ok_or(EINVAL)?;
        let map = WritableMap::new(SECTORS, block)?;
        let mut naive = Naive(KVVec::from_elem(false, SECTORS as usize, GFP_KERNEL)?);
        let mut writable = 0u32;
        for number in 0..60 {
            let change = range(3 * number);
            if number % 3 == 0 {
                map.clear(&change);
            } else {
                map.set(&change);
            }
            naive.set(&change, number % 3 != 0);
            for asked in [range(3 * number + 1), range(3 * number + 2), change.clone()] {
                let wanted = naive.contains(&asked);
                writable += u32::from(wanted);
                assert_eq!(map.admit(&asked).0, wanted);
            }
            // With one block more at either side.
            let wider = change.start.saturating_sub(1)..(change.end + 1).min(SECTORS);
            assert_eq!(map.admit(&wider).0, naive.contains(&wider));
        }
        // Of both there were some.
        assert!(writable > 20);
        assert!(writable < 160);
        Ok(())
    }

    #[test]
    fn a_part_of_a_block_counts_as_all_of_it() -> Result {
        let block = BlockSize::from_bytes(4096).ok_or(EINVAL)?;
        let map = WritableMap::new(80, block)?;
        map.set(&(9..10));
        assert!(map.admit(&(8..16)).0);
        assert!(!map.admit(&(7..16)).0);
        assert!(!map.admit(&(8..17)).0);
        map.set_ahead(&(15..24));
        // Block 1 only: the next one is not writable, so it cannot be ahead.
        assert_eq!(map.admit(&(8..9)), (true, 1));
        assert_eq!(map.admit(&(8..9)), (true, 0));
        map.set_ahead(&(8..9));
        assert_eq!(map.clear(&(15..16)), 1);
        assert!(!map.admit(&(9..10)).0);

        // The last block, which the end of the device cuts off, has a page of its own.
        let last = PAGE_BLOCKS * block.sectors();
        let map = WritableMap::new(last + 3, block)?;
        map.set(&(last..last + 8));
        assert!(map.admit(&(last + 2..last + 3)).0);
        Ok(())
    }
}
