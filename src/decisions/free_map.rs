// SPDX-License-Identifier: GPL-2.0

//! The free map: the on-disk record of what was free at the checkpoint.
//!
//! The free map is a chain of blocks in free space, written once, before the write that decides the
//! checkpoint. The header of every log block says where the first block of the map is; each block says where
//! the next one is. So the blocks need not lie together, and the block that is written last is the first of
//! the chain. The map has the places of its own blocks too, and those of the first backups: all of that was
//! free.
//!
//! # Layout of a block
//!
//! | offset | type | field | meaning |
//! |-------:|------|-------|---------|
//! |  0 | u64 | next          | first sector of the next block of the map; 0 in the last one |
//! |  8 | u32 | next_checksum | checksum of that block, seeded like that of an entry whose source is `next` |
//! | 12 | u32 | count         | number of extents in this block |
//! | 16 | u64 | start         | number of the device's block that the first gap is counted from |
//! | 24 |     | extents       | `count` pairs of numbers: gap, length |
//!
//! The unit of both numbers is a block. The gap is what is not free between the end of the extent before (or
//! `start`) and the extent. A number is in LEB128: seven bits a byte, the lowest first, with the high bit set in
//! all bytes but the last. Extents ascend within a block. All extents of the next block of the map lie
//! below `start`. What follows the last pair is zeroes.

use super::{
    block_size::BlockSize,
    log::{
        entry_seed,
        Crc32,
        FreeMap,
        BLOCK_SIZE_MAX, //
    },
};
use core::ops::Range as Span;
use kernel::{
    alloc::Flags,
    fmt,
    prelude::*, //
};

/// Size of an extent in bytes at the most: two numbers of 64 bits in LEB128.
const EXTENT_MAX: usize = 20;

/// Block of a free map that is being filled.
pub struct MapBlock {
    bytes: KVec<u8>,
    /// Size of a block.
    block: BlockSize,
    /// Number of extents.
    count: u32,
    /// Block of the device that the next gap is counted from.
    position: u64,
}

impl MapBlock {
    /// Allocates a block of a map. Sleeps if `flags` allow it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub fn new(block: BlockSize, flags: Flags) -> Result<Self> {
        Ok(Self {
            bytes: KVec::with_capacity(BLOCK_SIZE_MAX as usize, flags)?,
            block,
            count: 0,
            position: 0,
        })
    }

    /// Empties the block. `next` is the map so far, which the block will be put in front of; `start` is one past
    /// the last sector of its extents, or 0.
    pub fn begin(&mut self, next: Option<FreeMap>, start: u64) {
        self.bytes.clear();
        self.count = 0;
        self.position = self.block.number(start);
        self.put(&next.map_or(0, |next| next.sector).to_le_bytes());
        self.put(&next.map_or(0, |next| next.checksum).to_le_bytes());
        self.put(&0u32.to_le_bytes());
        self.put(&self.position.to_le_bytes());
    }

    /// Returns whether there is room for another extent.
    pub fn has_room(&self) -> bool {
        self.bytes.len() + EXTENT_MAX <= self.block.bytes() as usize
    }

    /// Adds the extent `span`, whole blocks in sectors. There is [room](Self::has_room), and the extents before
    /// end before `span` starts.
    pub fn push(&mut self, span: &Span<u64>) {
        let (start, end) = (self.block.number(span.start), self.block.number(span.end));
        self.put_number(start.saturating_sub(self.position));
        self.put_number(end.saturating_sub(start));
        self.position = end;
        self.count = self.count.saturating_add(1);
    }

    /// Ends the block, which will be at `sector`. Returns its bytes and the map that begins with the block.
    /// `next` is the same as in [`begin`](Self::begin).
    pub fn finish(&mut self, sector: u64, next: Option<FreeMap>, crc32: Crc32) -> (&[u8], FreeMap) {
        if let Some(count) = self.bytes.get_mut(12..16) {
            count.copy_from_slice(&self.count.to_le_bytes());
        }
        while self.bytes.len() < self.block.bytes() as usize {
            self.put(&[0]);
        }
        let map = FreeMap {
            sector,
            blocks: next.map_or(0, |next| next.blocks).saturating_add(1),
            checksum: crc32(entry_seed(sector, self.block.bytes()), &self.bytes),
        };
        (&self.bytes, map)
    }

    /// Appends bytes, for which there is capacity.
    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let _ = self.bytes.push_within_capacity(byte);
        }
    }

    /// Appends a number.
    fn put_number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.put(&[number as u8 | 0x80]);
            number >>= 7;
        }
        self.put(&[number as u8]);
    }
}

/// Reader of a free map, from its first block to its last.
pub struct MapReader {
    /// The map from the next block on; [`None`] when all blocks have been read.
    next: Option<FreeMap>,
    block: BlockSize,
    /// Number of the block below which the extents of the next block of the map lie.
    limit: u64,
}

/// Reason why a free map cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// A block of the map does not have the checksum that is recorded for it.
    Checksum {
        /// First sector of the block, as recorded.
        sector: u64,
    },
    /// The contents of a block of the map, or the place that is recorded for it, make no sense.
    Damaged {
        /// First sector of the block, as recorded.
        sector: u64,
    },
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { sector } => write!(
                f,
                "the block of the free map that belongs at sector {sector} has a wrong checksum"
            ),
            Self::Damaged { sector } => write!(
                f,
                "the block of the free map that belongs at sector {sector} makes no sense"
            ),
        }
    }
}

impl MapReader {
    /// Begins to read `map`, the free map of a device of `sectors` sectors.
    ///
    /// # Errors
    ///
    /// A [`MapError`] if there can be no such map.
    pub fn new(map: FreeMap, block: BlockSize, sectors: u64) -> Result<Self, MapError> {
        let mut reader = Self {
            next: None,
            block,
            limit: block.number(sectors),
        };
        if u64::from(map.blocks) > reader.limit {
            return Err(MapError::Damaged { sector: map.sector });
        }
        reader.set_next(map, sectors)?;
        Ok(reader)
    }

    /// Makes `map` what comes next.
    fn set_next(&mut self, map: FreeMap, sectors: u64) -> Result<(), MapError> {
        let is_place = map.sector > 0
            && self.block.down(map.sector) == map.sector
            && map.sector <= sectors.saturating_sub(self.block.sectors());
        if map.blocks == 0 || !is_place {
            return Err(MapError::Damaged { sector: map.sector });
        }
        self.next = Some(map);
        Ok(())
    }

    /// Returns where the next block of the map is, as recorded, if there is one: its data is where the log says
    /// that the data of this sector is.
    pub fn next(&self) -> Option<u64> {
        self.next.map(|next| next.sector)
    }

    /// Reads the next block of the map, which is `bytes`. Calls `visit` with each extent, in sectors: whole
    /// blocks of the device other than the first. `sectors` is the size of the device.
    ///
    /// # Errors
    ///
    /// A [`MapError`]. The extents of this block have been visited only in part then. Errors of `visit`.
    pub fn read<E: From<MapError>>(
        &mut self,
        bytes: &[u8],
        sectors: u64,
        crc32: Crc32,
        mut visit: impl FnMut(Span<u64>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(map) = self.next.take() else {
            return Ok(());
        };
        let damaged = MapError::Damaged { sector: map.sector };
        let size = self.block.bytes();
        let bytes = bytes.get(..size as usize).ok_or(damaged)?;
        if crc32(entry_seed(map.sector, size), bytes) != map.checksum {
            return Err(MapError::Checksum { sector: map.sector }.into());
        }
        let mut fields = Fields(bytes);
        let next = fields.u64().ok_or(damaged)?;
        let next_checksum = fields.u32().ok_or(damaged)?;
        let count = fields.u32().ok_or(damaged)?;
        let start = fields.u64().ok_or(damaged)?;
        // Each block lowers the limit by its extents. Without any, a chain of blocks could be a ring.
        if count == 0 {
            return Err(damaged.into());
        }
        let mut position = start;
        for _ in 0..count {
            let gap = fields.number().ok_or(damaged)?;
            let length = fields.number().ok_or(damaged)?;
            let begin = position.checked_add(gap).ok_or(damaged)?;
            position = begin.checked_add(length).ok_or(damaged)?;
            if begin == 0 || length == 0 || position > self.limit {
                return Err(damaged.into());
            }
            // At most the size of the device, so this cannot overflow.
            visit(self.block.sectors_of(begin)..self.block.sectors_of(position))?;
        }
        // The blocks before this one have all their extents at or above the limit.
        self.limit = self.limit.min(start);
        match (map.blocks.saturating_sub(1), next) {
            (0, 0) => Ok(()),
            (blocks, sector) => Ok(self.set_next(
                FreeMap {
                    sector,
                    blocks,
                    checksum: next_checksum,
                },
                sectors,
            )?),
        }
    }
}

/// Fields of a block of the map that have not been read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// Reads `N` bytes.
    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    /// Reads a number in LEB128. Returns [`None`] if it does not fit into 64 bits.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let [byte] = self.bytes()?;
            let bits = u64::from(byte & 0x7f);
            let shifted = bits << shift;
            if shifted >> shift != bits {
                return None;
            }
            number |= shifted;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
