// SPDX-License-Identifier: GPL-2.0

//! Which blocks are settled: the map that lets most writes of state 1 pass without a lock.
//!
//! A block that is settled is [`Kind::Changed`](crate::decisions::ranges::Kind::Changed) in the
//! range tree. The reverse need not hold: the map is a cache of the tree, and where memory for it
//! cannot be had, writes take the longer way. Two bits a block, in pages that are made only where
//! something changed: whether it is settled, and whether it is *ahead*, which is to say backed up
//! before it was written. The first write to a block that is ahead is counted: from that the
//! [window](crate::decisions::window) learns.
//!
//! # Concurrency
//!
//! Only the worker changes which blocks are settled. Readers hold a ticket of the device's epoch from
//! before they ask until their write has ended; so once the worker has cleared a bit and drained the
//! epoch, no write that saw the bit is in flight. Whether a block is ahead is changed by everyone,
//! atomically; nothing but the count depends on it.

use crate::decisions::block_size::BlockSize;
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

/// Words in a page.
const PAGE_WORDS: u64 = 256;

/// Blocks that a page covers.
const PAGE_BLOCKS: u64 = PAGE_WORDS * WORD_BITS;

/// What is known of [`WORD_BITS`] blocks.
struct Word {
    settled: Atomic<u64>,
    ahead: Atomic<u64>,
}

impl Word {
    const fn new() -> Self {
        Self {
            settled: Atomic::new(0),
            ahead: Atomic::new(0),
        }
    }

    /// Makes the blocks of `mask` be ahead or not. Returns how many of them were.
    #[inline]
    fn change_ahead(&self, mask: u64, ahead: bool) -> u32 {
        let mut old = self.ahead.load(Relaxed);
        loop {
            let new = if ahead { old | mask } else { old & !mask };
            if new == old {
                return (old & mask).count_ones();
            }
            match self.ahead.cmpxchg(old, new, Relaxed) {
                Ok(_) => return (old & mask).count_ones(),
                Err(now) => old = now,
            }
        }
    }
}

type Page = KVec<Word>;

/// The settled blocks of a device.
pub(super) struct SettledMap {
    pages: KVVec<SetOnce<Page>>,
    block: BlockSize,
}

impl SettledMap {
    /// Creates the map of a device of `sectors` sectors, in which no block is settled.
    /// `ENOMEM`.
    pub(super) fn new(sectors: u64, block: BlockSize) -> Result<Self> {
        let count = usize::try_from(block.number(sectors).div_ceil(PAGE_BLOCKS))?;
        let mut pages = KVVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            pages.push(SetOnce::new(), GFP_KERNEL)?;
        }
        Ok(Self { pages, block })
    }

    /// The word that has the bit of `block`; none if nothing of its page is settled.
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

    /// Whether all blocks that `sectors` touches are settled, so that they can be written; and how many
    /// of them were ahead until now.
    #[inline]
    pub(super) fn admit(&self, sectors: &Range<u64>) -> (bool, u64) {
        let mut hits = 0;
        let admitted = self.visit(sectors, |block, mask| {
            self.word(block).is_some_and(|word| {
                if word.ahead.load(Relaxed) & mask != 0 {
                    hits += u64::from(word.change_ahead(mask, false));
                }
                word.settled.load(Relaxed) & mask == mask
            })
        });
        (admitted, hits)
    }

    /// Marks all blocks that `sectors` touches as settled, except where memory is short.
    pub(super) fn set(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if self.word(block).is_none() && self.make_page(block).is_err() {
                return false;
            }
            if let Some(word) = self.word(block) {
                word.settled
                    .store(word.settled.load(Relaxed) | mask, Relaxed);
            }
            true
        });
    }

    /// Marks all blocks that `sectors` touches, which are settled, as ahead.
    pub(super) fn set_ahead(&self, sectors: &Range<u64>) {
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                word.change_ahead(mask & word.settled.load(Relaxed), true);
            }
            true
        });
    }

    /// Marks all blocks that `sectors` touches as not settled. Returns how many of them were ahead.
    pub(super) fn clear(&self, sectors: &Range<u64>) -> u64 {
        let mut hits = 0;
        self.visit(sectors, |block, mask| {
            if let Some(word) = self.word(block) {
                hits += u64::from(word.change_ahead(mask, false));
                word.settled
                    .store(word.settled.load(Relaxed) & !mask, Relaxed);
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
