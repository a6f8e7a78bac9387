// SPDX-License-Identifier: GPL-2.0

//! The bytes of a log, after the description of the format alone.

use std::ops::Range;

use crate::disk::SECTOR;

/// Size of an entry in bytes.
pub(crate) const ENTRY: usize = 24;

/// Driver whose log is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// The C driver's: 28 bytes of header, entries to the end of the block.
    V1_0,
    /// Ours: 80 bytes of header, entries to the end of the first sector.
    V1_1,
    /// Ours with a record of free space.
    V1_2,
}

impl Version {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    /// Returns the bytes of the header's version field.
    pub fn bytes(self) -> [u8; 2] {
        match self {
            Self::V1_0 => [0, 1],
            Self::V1_1 => [1, 1],
            Self::V1_2 => [2, 1],
        }
    }

    /// Returns the size of the header in bytes.
    pub fn header_size(self) -> usize {
        match self {
            Self::V1_0 => 28,
            Self::V1_1 | Self::V1_2 => 80,
        }
    }

    /// Returns the number of entries that a log block has room for.
    pub(crate) fn room(self, block_size: usize) -> usize {
        let end = match self {
            Self::V1_0 => block_size,
            Self::V1_1 | Self::V1_2 => SECTOR,
        };
        (end - self.header_size()) / ENTRY
    }
}

/// Fields of a log block's header, the number of entries and the checksum aside.
pub(crate) struct Header<'a> {
    pub(crate) version: Version,
    /// Bytes.
    pub(crate) block_size: u32,
    pub(crate) sequence: u32,
    pub(crate) sector0: u64,
    pub(crate) uuid: &'a [u8],
    /// Seconds since the epoch.
    pub(crate) time: u64,
    /// The free map's sector, blocks and checksum; zeroes if there is none.
    pub(crate) map: (u64, u32, u32),
}

impl Header<'_> {
    /// Returns a log block with these entries, up to the end of the last one.
    pub(crate) fn log_block(&self, entries: &[[u8; ENTRY]]) -> Vec<u8> {
        let mut log = Vec::new();

        log.extend(*b"BOW\0");
        log.extend(self.version.bytes());
        log.extend((self.version.header_size() as u16).to_le_bytes());
        log.extend(self.block_size.to_le_bytes());
        log.extend((entries.len() as u32).to_le_bytes());
        log.extend(self.sequence.to_le_bytes());
        log.extend(self.sector0.to_le_bytes());
        if self.version != Version::V1_0 {
            let (sector, blocks, sum) = self.map;

            log.extend([0; 4]);
            log.extend(self.uuid);
            log.extend(self.time.to_le_bytes());
            log.extend(sector.to_le_bytes());
            log.extend(blocks.to_le_bytes());
            log.extend(sum.to_le_bytes());
            log.extend([0; 8]);
        }
        for entry in entries {
            log.extend(entry);
        }
        if self.version != Version::V1_0 {
            let sum = crc(!0, &log);
            log[28..32].copy_from_slice(&sum.to_le_bytes());
        }
        log
    }
}

/// Returns an entry; one of size 0 from `source` to a later `dest` is a grant. Size in bytes.
pub(crate) fn entry(source: u64, dest: u64, size: u32, checksum: u32) -> [u8; ENTRY] {
    let mut entry = [0; ENTRY];

    entry[..8].copy_from_slice(&source.to_le_bytes());
    entry[8..16].copy_from_slice(&dest.to_le_bytes());
    entry[16..20].copy_from_slice(&size.to_le_bytes());
    entry[20..].copy_from_slice(&checksum.to_le_bytes());
    entry
}

/// Returns a block of a free map, up to the end of its last extent. `sector` and `sum` are those of the
/// map's block before it, `start` is the block number that the first extent is counted from.
pub(crate) fn map_block(sector: u64, sum: u32, start: usize, extents: &[Range<usize>]) -> Vec<u8> {
    let mut data = Vec::new();

    data.extend(sector.to_le_bytes());
    data.extend(sum.to_le_bytes());
    data.extend((extents.len() as u32).to_le_bytes());
    data.extend((start as u64).to_le_bytes());
    let mut position = start;
    for extent in extents {
        number(&mut data, extent.start - position);
        number(&mut data, extent.len());
        position = extent.end;
    }
    data
}

/// Appends a number to a free map: seven bits a byte, the lowest first.
fn number(data: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        data.push(number as u8 & 0x7f | 0x80);
        number >>= 7;
    }
    data.push(number as u8);
}

/// Returns the raw CRC-32.
pub fn crc(seed: u32, data: &[u8]) -> u32 {
    data.iter().fold(seed, |crc, byte| {
        (crc >> 8) ^ TABLE[usize::from((crc as u8) ^ byte)]
    })
}

/// Table of what each byte does to a CRC, worked out bit by bit.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;

    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;

        while bit < 8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
