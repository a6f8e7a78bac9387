// SPDX-License-Identifier: GPL-2.0

//! The superblock of ext2, ext3 and ext4, as far as it says who used the file system when.

/// Times in a superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Time of the last mount in seconds since the epoch.
    pub mounted: u64,
    /// Time of the last write of the superblock.
    pub written: u64,
    /// Time of the last full check.
    pub checked: u64,
}

impl Superblock {
    /// Its first sector.
    pub const SECTOR: u64 = 2;
    /// Its length in sectors.
    pub const SECTORS: usize = 2;

    /// Reads the superblock of a device that begins with `device`; `None` if there is none.
    pub fn parse(device: &[u8]) -> Option<Self> {
        let data = device.get(1024..2048)?;
        let word = |at: usize| u32::from_le_bytes(data[at..at + 4].try_into().unwrap_or_default());
        // The upper byte is elsewhere.
        let time = |low: usize, high: usize| u64::from(word(low)) | (u64::from(data[high]) << 32);

        // The magic, a block size of at most 64 KiB, one of two revisions.
        (data[0x38..0x3a] == [0x53, 0xef] && word(0x18) <= 6 && word(0x4c) <= 1).then(|| Self {
            mounted: time(0x2c, 0x275),
            written: time(0x30, 0x274),
            checked: time(0x40, 0x277),
        })
    }
}
