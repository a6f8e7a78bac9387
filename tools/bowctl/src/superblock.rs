// SPDX-License-Identifier: GPL-2.0

//! The superblock of ext2, ext3 and ext4: the fields that bowctl looks at.

use crate::words;

/// Superblock of a file system of the ext family.
pub struct Superblock([u8; Superblock::LEN]);

impl Superblock {
    /// Offset in bytes on the device.
    pub const OFFSET: usize = 1024;
    /// Length in bytes.
    pub const LEN: usize = 1024;

    const MAGIC: u16 = 0xef53;
    const COMPAT_HAS_JOURNAL: u32 = 0x4;
    const INCOMPAT_META_BG: u32 = 0x10;
    const INCOMPAT_64BIT: u32 = 0x80;
    const RO_COMPAT_GDT_CSUM: u32 = 0x10;
    const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

    /// Reads the superblock of a device that begins with `device`; `None` if there is none.
    pub fn parse(device: &[u8]) -> Option<Self> {
        let bytes = device.get(Self::OFFSET..Self::OFFSET + Self::LEN)?;

        Self::new(bytes.try_into().ok()?)
    }

    /// Makes a superblock of its bytes; `None` if they are none.
    pub fn new(bytes: [u8; Self::LEN]) -> Option<Self> {
        let superblock = Self(bytes);

        // The magic, a block size of at most 64 KiB, one of two revisions.
        (superblock.short(0x38) == Self::MAGIC
            && superblock.long(0x18) <= 6
            && superblock.long(0x4c) <= 1)
            .then_some(superblock)
    }

    fn short(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.0[offset], self.0[offset + 1]])
    }

    fn long(&self, offset: usize) -> u32 {
        u32::from(self.short(offset)) | (u32::from(self.short(offset + 2)) << 16)
    }

    /// A time in seconds since the epoch; its upper byte is elsewhere.
    fn time(&self, low: usize, high: usize) -> u64 {
        u64::from(self.long(low)) | (u64::from(self.0[high]) << 32)
    }

    /// Returns the time of the last mount.
    pub fn mounted(&self) -> u64 {
        self.time(0x2c, 0x275)
    }

    /// Returns the time of the last write of the superblock.
    pub fn written(&self) -> u64 {
        self.time(0x30, 0x274)
    }

    /// Returns the time of the last full check.
    pub fn checked(&self) -> u64 {
        self.time(0x40, 0x277)
    }

    /// Returns the UUID, as blkid prints it.
    pub fn uuid(&self) -> String {
        let mut bytes = [0; 16];

        bytes.copy_from_slice(&self.0[0x68..0x78]);
        words::uuid(&bytes)
    }

    /// Returns whether metadata has checksums, the superblock's own among them.
    pub fn metadata_csum(&self) -> bool {
        self.long(0x64) & Self::RO_COMPAT_METADATA_CSUM != 0
    }

    /// Returns the size of a block in bytes.
    pub fn block_bytes(&self) -> u64 {
        1024 << self.long(0x18)
    }

    /// Returns the block that the first copy of the superblock is in: at the beginning of the second
    /// group, if there is one.
    pub fn copy(&self) -> Option<u64> {
        let group = self.long(0x20);
        let copy = self.long(0x14).checked_add(group)?;

        (group > 0 && self.long(0x4) > copy).then_some(copy.into())
    }

    /// Returns the number of the device that the journal is on, if it is on one of its own.
    pub fn journal_device(&self) -> Option<String> {
        let inode = self.long(0xe0);
        let device = self.long(0xe4);
        let external = self.long(0x5c) & Self::COMPAT_HAS_JOURNAL != 0 && inode == 0;

        external.then(|| {
            format!(
                "{}:{}",
                (device >> 8) & 0xfff,
                (device & 0xff) | ((device >> 12) & 0xf_ff00)
            )
        })
    }

    /// Returns where the group descriptors are, if inode tables may still have to be zeroed: without
    /// checksums of groups mkfs has zeroed all of them. `None` also where the descriptors of meta groups
    /// are all over the device.
    pub fn descriptors(&self) -> Option<Descriptors> {
        let checksums = Self::RO_COMPAT_GDT_CSUM | Self::RO_COMPAT_METADATA_CSUM;
        let incompat = self.long(0x60);

        if self.long(0x64) & checksums == 0 || incompat & Self::INCOMPAT_META_BG != 0 {
            return None;
        }
        let wide = incompat & Self::INCOMPAT_64BIT != 0;
        let high = if wide { self.long(0x150) } else { 0 };
        let blocks = u64::from(self.long(0x4)) | (u64::from(high) << 32);
        let first = u64::from(self.long(0x14));
        let groups = blocks
            .checked_sub(first)?
            .div_ceil(u64::from(self.long(0x20)).max(1));
        let size = match wide {
            true => usize::from(self.short(0xfe)),
            false => 32,
        };

        Some(Descriptors {
            offset: (first + 1) << (self.long(0x18) + 10),
            size: Some(size).filter(|size| *size >= 32)?,
            count: usize::try_from(groups).ok()?,
        })
    }

    /// Returns the bytes of one group's inode table.
    pub fn inode_table_bytes(&self) -> u64 {
        u64::from(self.long(0x28)) * u64::from(self.short(0x58))
    }
}

/// Place of the group descriptors.
pub struct Descriptors {
    /// Offset in bytes on the device.
    pub offset: u64,
    /// Bytes of a descriptor.
    pub size: usize,
    /// Number of descriptors.
    pub count: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uuid_is_as_blkid_prints_it() {
        let mut bytes = [0; Superblock::LEN];

        bytes[0x38..0x3a].copy_from_slice(&Superblock::MAGIC.to_le_bytes());
        for (number, byte) in (1..).zip(&mut bytes[0x68..0x78]) {
            *byte = number;
        }
        assert_eq!(
            Superblock::new(bytes).unwrap().uuid(),
            "01020304-0506-0708-090a-0b0c0d0e0f10"
        );
    }
}
