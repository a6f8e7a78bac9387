// SPDX-License-Identifier: GPL-2.0

//! Block size, the unit of backup; rounding to blocks.

use super::log::{
    Header,
    BLOCK_SIZE_MAX,
    BLOCK_SIZE_MIN,
    SECTOR_SHIFT, //
};

/// Valid block size: a power of two from 512 to 4096 bytes.
///
/// # Invariants
///
/// `shift` is at most 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSize {
    /// Binary logarithm of the number of sectors in a block.
    shift: u32,
}

impl BlockSize {
    /// Largest block size.
    // INVARIANT: The largest block size is 8 sectors.
    pub const MAX: Self = Self {
        shift: BLOCK_SIZE_MAX.trailing_zeros() - SECTOR_SHIFT,
    };

    /// Returns the block size of `bytes` bytes, or [`None`] if no block may have that size.
    pub fn from_bytes(bytes: u32) -> Option<Self> {
        let valid = bytes.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&bytes);
        // INVARIANT: `bytes` is a power of two from 1 to 8 sectors.
        valid.then(|| Self {
            shift: bytes.trailing_zeros().saturating_sub(SECTOR_SHIFT),
        })
    }

    /// Returns the block size of a log block, whose header was found valid.
    pub fn of(header: &Header) -> Self {
        Self::from_bytes(header.block_size).unwrap_or(Self::MAX)
    }

    /// Returns the number of bytes in a block.
    #[inline]
    pub fn bytes(self) -> u32 {
        BLOCK_SIZE_MIN.wrapping_shl(self.shift)
    }

    /// Returns the number of sectors in a block.
    #[inline]
    pub fn sectors(self) -> u64 {
        1u64.wrapping_shl(self.shift)
    }

    /// Returns the first sector of the block that `sector` is in.
    #[inline]
    pub fn down(self, sector: u64) -> u64 {
        sector & !self.mask()
    }

    /// Returns the first sector of the first block that starts at `sector` or after it.
    #[inline]
    pub fn up(self, sector: u64) -> u64 {
        self.down(sector.saturating_add(self.mask()))
    }

    /// Returns the number of the block that `sector` is in.
    #[inline]
    pub fn number(self, sector: u64) -> u64 {
        sector.wrapping_shr(self.shift)
    }

    /// Returns the first sector of block `number`, which is on a device.
    #[inline]
    pub fn sectors_of(self, number: u64) -> u64 {
        number.wrapping_shl(self.shift)
    }

    /// Returns the bits of a sector number that count the sectors in a block.
    #[inline]
    fn mask(self) -> u64 {
        self.sectors().wrapping_sub(1)
    }
}
