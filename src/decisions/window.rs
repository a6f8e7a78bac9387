// SPDX-License-Identifier: GPL-2.0

//! How much more than a write needs is backed up with it.
//!
//! A backup costs a read, a write, a log entry and a share of a barrier, nearly as much for one
//! block as for sixteen. Where first writes lie close together it pays to back up the neighbours at
//! once; where they do not it is waste. Which of the two it is shows only later, so the window pays
//! for what it takes beyond need from a credit: that begins at [`CREDIT_START`], grows by a small
//! share of what is needed, and is given back for neighbours that are written after all. Hits make
//! the window wider, an empty credit makes it narrower; and the waste is bounded, whatever the load.
//!
//! Writes to neighbours that are backed up take the fast path, where nobody counts them. So one
//! block in [`SAMPLE`] of them is left out of the map of settled blocks: the first write to it comes
//! by the worker, and stands for all. Which one of a group that is has no pattern, so that no pattern
//! of writes finds only those.

use super::{
    block_size::BlockSize,
    log::SECTOR_SHIFT, //
};
use core::ops::Range as Span;

/// Sectors beyond need that may be backed up before any was written.
const CREDIT_START: u64 = (1 << 20) >> SECTOR_SHIFT;

/// The most sectors of credit.
const CREDIT_MAX: u64 = (8 << 20) >> SECTOR_SHIFT;

/// Sectors that are needed for one sector of credit.
const NEEDED_PER_CREDIT: u64 = 16;

/// The window at the start, in sectors.
const SIZE_START: u64 = (64 << 10) >> SECTOR_SHIFT;

/// The widest window, in sectors.
const SIZE_MAX: u64 = (1 << 20) >> SECTOR_SHIFT;

/// Windows that must fit into the free space for one to be used.
const SPACE_MIN: u64 = 16;

/// One block in so many is watched.
const SAMPLE: u64 = 8;

/// The window of a device.
pub struct Window {
    /// Its size in sectors: a power of two.
    size: u64,
    /// Sectors that may still be backed up beyond need.
    credit: u64,
    /// Sectors needed that have not made credit yet.
    needed: u64,
    /// Set when a backup of more than was needed has failed: it might not have without the rest.
    closed: bool,
}

impl Window {
    /// The window of a new checkpoint.
    pub const fn new() -> Self {
        Self {
            size: SIZE_START,
            credit: CREDIT_START,
            needed: 0,
            closed: false,
        }
    }

    /// What to back up when `wanted` has to be: that, or more of `unchanged`, which contains it.
    /// `free` is the free space, `room` what fits into the batch, all in sectors.
    pub fn around(
        &mut self,
        wanted: &Span<u64>,
        unchanged: &Span<u64>,
        block: BlockSize,
        free: u64,
        room: u64,
    ) -> Span<u64> {
        let length = wanted.end.saturating_sub(wanted.start);
        self.needed = self.needed.saturating_add(length);
        self.grow_credit(self.needed / NEEDED_PER_CREDIT);
        self.needed %= NEEDED_PER_CREDIT;

        while !self.closed && self.size > block.sectors() {
            let mask = self.size.wrapping_sub(1);
            let start = (wanted.start & !mask).max(unchanged.start);
            let end = (wanted.end.saturating_add(mask) & !mask).min(unchanged.end);
            let total = end.saturating_sub(start);
            let extra = total.saturating_sub(length);
            if extra <= self.credit && total <= room && free / SPACE_MIN >= self.size {
                self.credit = self.credit.saturating_sub(extra);
                return start..end;
            }
            if extra <= self.credit || self.size <= SIZE_START {
                // It is not the credit that is missing, or there is none.
                break;
            }
            self.size /= 2;
        }
        wanted.clone()
    }

    /// The part of a block that is watched was written.
    pub fn hit(&mut self, block: BlockSize) {
        self.grow_credit(SAMPLE.wrapping_mul(block.sectors()));
        self.size = self.size.saturating_mul(2).min(SIZE_MAX);
    }

    /// A backup of more than was needed failed.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Calls `settled` with the parts of `copied`, a backup of more than was needed, that are not
    /// watched.
    pub fn unwatched(copied: &Span<u64>, block: BlockSize, mut settled: impl FnMut(Span<u64>)) {
        let group_sectors = SAMPLE.wrapping_mul(block.sectors());
        let mut group = copied.start & !group_sectors.wrapping_sub(1);
        while group < copied.end {
            let end = group.saturating_add(group_sectors);
            // Multiplicative hashing: the highest bits are the best mixed.
            let watched = group.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SAMPLE.ilog2());
            let watched = group.saturating_add(watched.wrapping_mul(block.sectors()));
            let before = group.max(copied.start)..watched.min(copied.end);
            let behind =
                watched.saturating_add(block.sectors()).max(copied.start)..end.min(copied.end);
            for part in [before, behind] {
                if !part.is_empty() {
                    settled(part);
                }
            }
            group = end;
        }
    }

    fn grow_credit(&mut self, sectors: u64) {
        self.credit = self.credit.saturating_add(sectors).min(CREDIT_MAX);
    }
}
