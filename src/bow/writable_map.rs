// SPDX-License-Identifier: GPL-2.0

//! The map of writable blocks, which lets most writes of state 1 pass without a lock.
//!
//! The sectors of a writable block are of [`Kind::Writable`](crate::decisions::ranges::Kind::Writable) in the
//! range tree. The reverse need not hold: the map is a cache of the tree, and where memory for the map is
//! short, writes take the longer way through the worker. The map has two bits a block, in pages that are
//! allocated only where a block is writable:
//!
//! | written | fresh | meaning of the block |
//! |---|---|---|
//! | 0 | 0 | not writable |
//! | 1 | 0 | writable |
//! | 1 | 1 | writable and *prefetched*: backed up before its first write |
//! | 0 | 1 | writable and *granted*: was free, and nobody has written to it |
//!
//! The first write to a prefetched block is counted, since the [window](crate::decisions::window) learns from
//! the count. The first write to a granted block is counted too: the others can still be
//! [taken back](WritableMap::take_back), to be free again.
//!
//! # Concurrency
//!
//! Both bits of a block change in one atomic operation. A writer makes its blocks written; all other changes
//! are the worker's. So of a writer and the worker that both want a granted block, the first has it, and
//! nobody has to wait.
//!
//! A reader holds a ticket of [`Bow::in_flight`](super::Bow::in_flight) from before it reads a bit until its write has completed. So
//! once the worker has cleared the bits of a block and waited for the tickets, no write that saw one of them set
//! is in flight.

use super::writable_word::{
    FirstWrites,
    Word,
    WORD_BITS, //
};
use crate::decisions::block_size::BlockSize;
use core::ops::Range;
use kernel::{
    prelude::*,
    sync::SetOnce, //
};
use pin_init::init_array_from_fn;

/// Number of words in a page.
const PAGE_WORDS: u64 = 512;

/// Number of blocks that a page covers.
const PAGE_BLOCKS: u64 = PAGE_WORDS * WORD_BITS;

/// Words of [`PAGE_BLOCKS`] blocks.
type Page = KBox<[Word; PAGE_WORDS as usize]>;

/// Map of the writable blocks of a device.
pub(super) struct WritableMap {
    pages: KVVec<SetOnce<Page>>,
    block: BlockSize,
}

impl WritableMap {
    /// Creates the map of a device of `sectors` sectors, in which no block is writable. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the number of pages does not fit a `usize`.
    pub(super) fn new(sectors: u64, block: BlockSize) -> Result<Self> {
        let count = usize::try_from(block.number(block.up(sectors)).div_ceil(PAGE_BLOCKS))?;
        // The list is large if the device is, so failing is no surprise.
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL | __GFP_NOWARN)?;
        for _ in 0..count {
            pages.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self { pages, block })
    }

    /// Returns the word that has the bit of `block`; [`None`] if no block of its page is writable.
    #[inline]
    fn word(&self, block: u64) -> Option<&Word> {
        let page = self.pages.get((block / PAGE_BLOCKS) as usize)?.as_ref()?;
        page.get((block % PAGE_BLOCKS / WORD_BITS) as usize)
    }

    /// Returns as a mask the bits of one word that `count` blocks, at least one, have from `bit` on.
    #[inline]
    fn mask(bit: u64, count: u64) -> u32 {
        let count = count.min(WORD_BITS - bit);
        (u32::MAX >> (WORD_BITS - count)) << bit
    }

    /// Returns the numbers of the blocks that `sectors` touches.
    #[inline]
    fn blocks(&self, sectors: &Range<u64>) -> Range<u64> {
        self.block.number(sectors.start)..self.block.number(self.block.up(sectors.end))
    }

    /// Calls `visit` for each word in which `sectors` has blocks, with the first of these blocks and the mask
    /// of all of them, until `visit` returns `false`.
    #[inline]
    fn visit(&self, sectors: &Range<u64>, mut visit: impl FnMut(u64, u32) -> bool) {
        let blocks = self.blocks(sectors);
        let mut block = blocks.start;
        while block < blocks.end {
            let bit = block % WORD_BITS;
            if !visit(block, Self::mask(bit, blocks.end - block)) {
                break;
            }
            block += WORD_BITS - bit;
        }
    }

    /// Returns whether all blocks that `sectors` touches are writable, and how many of them had their first write
    /// with that. Any context.
    // Always inline: as `Bow::is_writable`, its caller.
    #[inline(always)]
    pub(super) fn admit(&self, sectors: &Range<u64>) -> (bool, FirstWrites) {
        let blocks = self.blocks(sectors);
        let bit = blocks.start % WORD_BITS;
        let count = blocks.end.saturating_sub(blocks.start);
        if count == 0 || count > WORD_BITS - bit {
            return self.admit_words(sectors);
        }
        // So it is with most writes.
        let word = self.word(blocks.start);
        let first = word.and_then(|word| word.admit(Self::mask(bit, count)));
        (first.is_some(), first.unwrap_or_default())
    }

    /// Does the same as [`admit`](Self::admit), for blocks of any number of words.
    ///
    /// Asks all words, though one may not be there for want of memory: the worker lets the write pass in the end, and
    /// no block that the write goes to may be left granted.
    fn admit_words(&self, sectors: &Range<u64>) -> (bool, FirstWrites) {
        let mut first = FirstWrites::default();
        let mut admitted = true;
        self.visit(sectors, |block, mask| {
            let word = self.word(block).and_then(|word| word.admit(mask));
            first.add(word.unwrap_or_default());
            admitted &= word.is_some();
            true
        });
        (admitted, first)
    }

    /// Marks all blocks that `sectors` touches as writable, except where memory is short. Does not sleep.
    /// Called by the worker only.
    pub(super) fn set(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word_or_new(block) {
                word.set(mask);
            }
            true
        });
    }

    /// Marks those blocks that `sectors` touches and that are writable as prefetched.
    pub(super) fn set_prefetched(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                word.set_prefetched(mask);
            }
            true
        });
    }

    /// Marks those blocks that `sectors` touches and that are not writable as granted, except where memory is
    /// short. Returns their number. Does not sleep. Called by the worker only.
    pub(super) fn set_granted(&self, sectors: &Range<u64>) -> u64 {
        let mut count = 0;
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word_or_new(block) {
                count += u64::from(word.set_granted(mask).count_ones());
            }
            true
        });
        count
    }

    /// Marks all blocks that `sectors` touches as not writable. Returns how many of them were still waiting for
    /// their first write. Called by the worker only.
    pub(super) fn clear(&self, sectors: &Range<u64>) -> FirstWrites {
        let mut first = FirstWrites::default();
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                first.add(word.clear(mask));
            }
            true
        });
        first
    }

    /// Takes granted blocks within `sectors` back, lowest first: they are not writable any more, and no write to
    /// them has passed. Calls `taken` with the sectors of each run of such blocks, until `taken` returns `false`;
    /// what it returned `false` for stays granted. Called by the worker only.
    pub(super) fn take_back(
        &self,
        sectors: &Range<u64>,
        mut taken: impl FnMut(Range<u64>) -> bool,
    ) {
        self.visit(sectors, |block, mask| {
            let Some(word) = self.word(block) else {
                return true;
            };
            let mut left = word.granted() & mask;
            while left != 0 {
                let bit = u64::from(left.trailing_zeros());
                let run = Self::mask(bit, u64::from((left >> bit).trailing_ones()));
                left &= !run;
                // Where a writer was faster, the rest of the run is left to the next call.
                let is_taken = word.take_back(run);
                let first = block - block % WORD_BITS + bit;
                let end = first + u64::from(run.count_ones());
                let span = self.block.sectors_of(first)..self.block.sectors_of(end);
                if is_taken && !taken(span) {
                    word.set_granted(run);
                    return false;
                }
            }
            true
        });
    }

    /// Returns the word that has the bit of `block`, allocating its page if need be; [`None`] if there is no
    /// memory for that. Does not sleep.
    fn word_or_new(&self, block: u64) -> Option<&Word> {
        if self.word(block).is_none() {
            self.make_page(block).ok()?;
        }
        self.word(block)
    }

    /// Allocates the page that has the bits of `block`, without sleeping.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; `EINVAL` if the device has no such block.
    fn make_page(&self, block: u64) -> Result {
        let slot = self
            .pages
            .get((block / PAGE_BLOCKS) as usize)
            .ok_or(EINVAL)?;
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        slot.populate(KBox::init(init_array_from_fn(|_| Word::new()), flags)?);
        Ok(())
    }
}

#[kunit_tests(dm_bow_writable)]
mod tests {
    use super::*;
    use crate::decisions::log::SECTOR_SIZE;

    const SECTORS: u64 = 2 * PAGE_BLOCKS + 200;

    /// Reference model: one `bool` a block.
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

    /// Returns a range near the end of a word or a page.
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
    fn writable_as_a_naive_list() -> Result {
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
            // Wider by one block on either side.
            let wider = change.start.saturating_sub(1)..(change.end + 1).min(SECTORS);
            assert_eq!(map.admit(&wider).0, naive.contains(&wider));
        }
        // Both answers occurred.
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
        map.set_prefetched(&(15..24));
        let first = |prefetched, granted| FirstWrites {
            prefetched,
            granted,
        };
        // Block 1 only: the next one is not writable, so it cannot be prefetched.
        assert_eq!(map.admit(&(8..9)), (true, first(1, 0)));
        assert_eq!(map.admit(&(8..9)), (true, first(0, 0)));
        map.set_prefetched(&(8..9));
        assert_eq!(map.clear(&(15..16)), first(1, 0));
        assert!(!map.admit(&(9..10)).0);

        // Block 1 again, and blocks 3 to 5, one of which is written before the others are taken back.
        map.set(&(8..16));
        assert_eq!(map.set_granted(&(8..16)), 0);
        assert_eq!(map.set_granted(&(24..48)), 3);
        assert_eq!(map.admit(&(32..40)), (true, first(0, 1)));
        assert_eq!(map.admit(&(32..40)), (true, first(0, 0)));
        let mut taken = KVVec::new();
        map.take_back(&(0..80), |span| taken.push(span, GFP_KERNEL).is_ok());
        assert!(taken.iter().eq([24..32, 40..48].iter()));
        assert!(map.admit(&(8..16)).0);
        assert!(map.admit(&(32..40)).0);
        assert!(!map.admit(&(24..32)).0);
        assert_eq!(map.set_granted(&(24..48)), 2);
        map.take_back(&(0..80), |_| false);
        assert_eq!(map.clear(&(24..48)), first(0, 2));

        // Granted blocks behind those of a page that is not there.
        let border = PAGE_BLOCKS * block.sectors();
        let map = WritableMap::new(2 * border, block)?;
        assert_eq!(map.set_granted(&(border..border + 24)), 3);
        assert_eq!(map.admit(&(border - 8..border + 16)), (false, first(0, 2)));
        map.take_back(&(border..border + 16), |_| true);
        assert!(map.admit(&(border..border + 16)).0);

        // The last block, which the end of the device cuts off, has a page of its own.
        let last = PAGE_BLOCKS * block.sectors();
        let map = WritableMap::new(last + 3, block)?;
        map.set(&(last..last + 8));
        assert!(map.admit(&(last + 2..last + 3)).0);
        Ok(())
    }
}
