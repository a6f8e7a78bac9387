// SPDX-License-Identifier: GPL-2.0

//! Facts about a mounted ext2, ext3 or ext4 that only its superblock or sysfs tell.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::users;

/// Returns whether a file system type is of the ext family.
pub fn is(kind: &str) -> bool {
    matches!(kind, "ext2" | "ext3" | "ext4")
}

/// Makes ext4 forget which of its free space it has trimmed, so that the next `fstrim` trims all of
/// it. Does nothing for other file systems.
///
/// ext4 trims a group again only if the minimum asked for is smaller than the last one; sysfs has
/// the last one.
pub fn forget_trims(number: &str) {
    if let Some(node) = users::node(number) {
        let last = Path::new("/sys/fs/ext4")
            .join(users::file_name(&node))
            .join("last_trim_minblks");

        if last.exists() {
            let _ = fs::write(last, i32::MAX.to_string());
        }
    }
}

/// Returns the number of the device that the journal of the file system on a block device is on, if
/// it is on one of its own.
pub fn journal_device(number: &str) -> Option<String> {
    Superblock::read(&File::open(users::node(number)?).ok()?)?.journal_device()
}

/// Returns how many bytes of inode tables are still to be zeroed in the background on the file
/// system of a block device.
pub fn lazy_bytes(number: &str) -> u64 {
    let bytes = || {
        let device = File::open(users::node(number)?).ok()?;

        Superblock::read(&device)?.lazy_bytes(&device)
    };

    bytes().unwrap_or(0)
}

/// A superblock.
struct Superblock([u8; 1024]);

impl Superblock {
    const OFFSET: u64 = 1024;
    const MAGIC: u16 = 0xef53;
    const COMPAT_HAS_JOURNAL: u32 = 0x4;
    const INCOMPAT_META_BG: u32 = 0x10;
    const INCOMPAT_64BIT: u32 = 0x80;
    const RO_COMPAT_GDT_CSUM: u32 = 0x10;
    const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
    /// In the flags of a group descriptor: the inode table has been zeroed.
    const INODE_ZEROED: u16 = 0x4;

    fn read(device: &File) -> Option<Self> {
        let mut bytes = [0; 1024];

        device.read_exact_at(&mut bytes, Self::OFFSET).ok()?;
        let superblock = Self(bytes);
        (superblock.short(0x38) == Self::MAGIC).then_some(superblock)
    }

    fn short(&self, offset: usize) -> u16 {
        u16::from_le_bytes([self.0[offset], self.0[offset + 1]])
    }

    fn long(&self, offset: usize) -> u32 {
        u32::from(self.short(offset)) | (u32::from(self.short(offset + 2)) << 16)
    }

    fn incompat(&self, flag: u32) -> bool {
        self.long(0x60) & flag != 0
    }

    fn journal_device(&self) -> Option<String> {
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

    fn lazy_bytes(&self, device: &File) -> Option<u64> {
        let checksums = Self::RO_COMPAT_GDT_CSUM | Self::RO_COMPAT_METADATA_CSUM;

        // Without checksums of groups all tables are zeroed by mkfs; descriptors of meta groups
        // are all over the device.
        if self.long(0x64) & checksums == 0 || self.incompat(Self::INCOMPAT_META_BG) {
            return None;
        }
        let wide = self.incompat(Self::INCOMPAT_64BIT);
        let high = if wide { self.long(0x150) } else { 0 };
        let blocks = u64::from(self.long(0x4)) | (u64::from(high) << 32);
        let first = u64::from(self.long(0x14));
        let groups = blocks
            .checked_sub(first)?
            .div_ceil(u64::from(self.long(0x20)).max(1));
        let size = if wide {
            u64::from(self.short(0xfe))
        } else {
            32
        };
        let at = (first + 1) << self.long(0x18).checked_add(10).filter(|bits| *bits <= 16)?;
        let mut descriptors = vec![0; usize::try_from(groups.checked_mul(size)?).ok()?];

        device.read_exact_at(&mut descriptors, at).ok()?;
        let pending = descriptors
            .chunks_exact(usize::try_from(size).ok().filter(|size| *size >= 32)?)
            .filter(|group| {
                u16::from_le_bytes([group[0x12], group[0x13]]) & Self::INODE_ZEROED == 0
            })
            .count() as u64;

        Some(pending * u64::from(self.long(0x28)) * u64::from(self.short(0x58)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(set: &[(usize, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();

        file.set_len(1 << 20).unwrap();
        file.write_all_at(&Superblock::MAGIC.to_le_bytes(), 1024 + 0x38)
            .unwrap();
        for (offset, bytes) in set {
            file.write_all_at(bytes, 1024 + *offset as u64).unwrap();
        }
        file
    }

    #[test]
    fn an_external_journal() {
        let journal = |inode: u32, device: u32| {
            Superblock::read(&image(&[
                (0x5c, &4_u32.to_le_bytes()),
                (0xe0, &inode.to_le_bytes()),
                (0xe4, &device.to_le_bytes()),
            ]))
            .unwrap()
            .journal_device()
        };

        assert_eq!(journal(8, 0), None);
        assert_eq!(journal(0, 0xfe01).as_deref(), Some("254:1"));
        assert_eq!(journal(0, 0x0010_fe02).as_deref(), Some("254:258"));
        assert!(Superblock::read(&tempfile::tempfile().unwrap()).is_none());
    }

    #[test]
    fn inode_tables_that_are_not_zeroed() {
        // Three groups of 8192 blocks of 1 KiB, 100 inodes of 256 bytes each.
        let lazy = |flags: [u16; 3]| {
            let file = image(&[
                (0x4, &20_000_u32.to_le_bytes()),
                (0x14, &1_u32.to_le_bytes()),
                (0x20, &8192_u32.to_le_bytes()),
                (0x28, &100_u32.to_le_bytes()),
                (0x58, &256_u16.to_le_bytes()),
                (0x64, &0x400_u32.to_le_bytes()),
            ]);
            for (group, flags) in flags.iter().enumerate() {
                file.write_all_at(&flags.to_le_bytes(), 2048 + group as u64 * 32 + 0x12)
                    .unwrap();
            }
            Superblock::read(&file).unwrap().lazy_bytes(&file)
        };

        assert_eq!(lazy([4, 4, 4]), Some(0));
        assert_eq!(lazy([4, 3, 7]), Some(25_600));
        assert_eq!(lazy([0, 0, 0]), Some(76_800));
    }
}
