// SPDX-License-Identifier: GPL-2.0

//! The unit of backup, and rounding to it.

use super::log::{
    BLOCK_SIZE_MAX,
    BLOCK_SIZE_MIN,
    SECTOR_SHIFT, //
};

/// A valid block size: a power of two from 512 to 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Binary logarithm of the sectors in a block: 0 to 3.
    shift: u32,
}

impl BlockSize {
    /// The largest block size.
    pub const MAX: Self = Self {
        shift: BLOCK_SIZE_MAX.trailing_zeros() - SECTOR_SHIFT,
    };

    /// The block size of `bytes` bytes, if that is one.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        let valid = bytes.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&bytes);
        valid.then(|| Self {
            shift: bytes.trailing_zeros().saturating_sub(SECTOR_SHIFT),
        })
    }

    /// Bytes in a block.
    #[inline]
    pub fn bytes(self) -> u32 {
        BLOCK_SIZE_MIN.wrapping_shl(self.shift)
    }

    /// Sectors in a block.
    #[inline]
    pub fn sectors(self) -> u64 {
        1u64.wrapping_shl(self.shift)
    }

    /// The first sector of the block that `sector` is in.
    #[inline]
    pub fn down(self, sector: u64) -> u64 {
        sector & !self.mask()
    }

    /// The first sector of the first block that starts at `sector` or after it.
    #[inline]
    pub fn up(self, sector: u64) -> u64 {
        self.down(sector.saturating_add(self.mask()))
    }

    /// The number of the block that `sector` is in.
    #[inline]
    pub fn number(self, sector: u64) -> u64 {
        sector.wrapping_shr(self.shift)
    }

    #[inline]
    fn mask(self) -> u64 {
        self.sectors().wrapping_sub(1)
    }
}
