// SPDX-License-Identifier: GPL-2.0

//! Which blocks are settled: the map that lets most writes of state 1 pass without a lock.
//!
//! A block that is settled is [`Kind::Changed`](crate::decisions::ranges::Kind::Changed) in the
//! range tree. The reverse need not hold: the map is a cache of the tree, and where memory for it
//! cannot be had, writes take the longer way. One bit a block, in pages that are made only where
//! something changed.
//!
//! # Concurrency
//!
//! Only the worker changes the map. Readers hold a ticket of the device's epoch from before they
//! ask until their write has ended; so once the worker has cleared a bit and drained the epoch, no
//! write that saw the bit is in flight.

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
const PAGE_WORDS: u64 = 512;

/// Blocks that a page covers.
const PAGE_BLOCKS: u64 = PAGE_WORDS * WORD_BITS;

type Page = KVec<Atomic<u64>>;

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

    /// The word that holds the bit of `block`, and the bit's number; none if nothing of its page is
    /// settled.
    #[inline]
    fn word(&self, block: u64) -> Option<(&Atomic<u64>, u64)> {
        let page = self.pages.get((block / PAGE_BLOCKS) as usize)?.as_ref()?;
        let word = page.get((block % PAGE_BLOCKS / WORD_BITS) as usize)?;
        Some((word, block % WORD_BITS))
    }

    /// The bits of one word that `blocks`, which is not empty, has from `block` on, as a mask.
    #[inline]
    fn mask(bit: u64, count: u64) -> u64 {
        let count = count.min(WORD_BITS - bit);
        (u64::MAX >> (WORD_BITS - count)) << bit
    }

    #[inline]
    fn blocks(&self, sectors: &Range<u64>) -> Range<u64> {
        self.block.number(sectors.start)..self.block.number(self.block.up(sectors.end))
    }

    /// Whether all blocks that `sectors` touches are settled.
    #[inline]
    pub(super) fn contains(&self, sectors: &Range<u64>) -> bool {
        let blocks = self.blocks(sectors);
        let mut block = blocks.start;
        while block < blocks.end {
            let Some((word, bit)) = self.word(block) else {
                return false;
            };
            let mask = Self::mask(bit, blocks.end - block);
            if word.load(Relaxed) & mask != mask {
                return false;
            }
            block += WORD_BITS - bit;
        }
        true
    }

    /// Marks all blocks that `sectors` touches as settled, except where memory is short.
    pub(super) fn set(&self, sectors: &Range<u64>) {
        let blocks = self.blocks(sectors);
        let mut block = blocks.start;
        while block < blocks.end {
            if self.word(block).is_none() && self.make_page(block).is_err() {
                return;
            }
            let Some((word, bit)) = self.word(block) else {
                return;
            };
            let mask = Self::mask(bit, blocks.end - block);
            word.store(word.load(Relaxed) | mask, Relaxed);
            block += WORD_BITS - bit;
        }
    }

    /// Marks all blocks that `sectors` touches as not settled.
    pub(super) fn clear(&self, sectors: &Range<u64>) {
        let blocks = self.blocks(sectors);
        let mut block = blocks.start;
        while block < blocks.end {
            if let Some((word, bit)) = self.word(block) {
                let mask = Self::mask(bit, blocks.end - block);
                word.store(word.load(Relaxed) & !mask, Relaxed);
            }
            block += WORD_BITS - block % WORD_BITS;
        }
    }

    fn make_page(&self, block: u64) -> Result {
        let slot = self
            .pages
            .get((block / PAGE_BLOCKS) as usize)
            .ok_or(EINVAL)?;
        let flags = GFP_NOWAIT | __GFP_NOWARN;
        let mut page = Page::with_capacity(PAGE_WORDS as usize, flags)?;
        for _ in 0..PAGE_WORDS {
            page.push(Atomic::new(0), flags)?;
        }
        slot.populate(page);
        Ok(())
    }
}
