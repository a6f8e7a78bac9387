// SPDX-License-Identifier: GPL-2.0

//! Facts about a mounted ext2, ext3 or ext4 that only its superblock or sysfs tell.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::superblock::Superblock;
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
    superblock(&File::open(users::node(number)?).ok()?)?.journal_device()
}

/// Returns how many bytes of inode tables are still to be zeroed in the background on the file
/// system of a block device.
pub fn lazy_bytes(number: &str) -> u64 {
    let device = users::node(number).and_then(|node| File::open(node).ok());

    device
        .and_then(|device| lazy_bytes_of(&device))
        .unwrap_or(0)
}

/// In the flags of a group descriptor: the inode table has been zeroed.
const INODE_ZEROED: u16 = 0x4;

fn superblock(device: &File) -> Option<Superblock> {
    let mut bytes = [0; Superblock::LEN];

    device
        .read_exact_at(&mut bytes, Superblock::OFFSET as u64)
        .ok()?;
    Superblock::new(bytes)
}

fn lazy_bytes_of(device: &File) -> Option<u64> {
    let superblock = superblock(device)?;
    let place = superblock.descriptors()?;
    let mut descriptors = vec![0; place.count.checked_mul(place.size)?];

    device.read_exact_at(&mut descriptors, place.offset).ok()?;
    let pending = descriptors
        .chunks_exact(place.size)
        .filter(|group| u16::from_le_bytes([group[0x12], group[0x13]]) & INODE_ZEROED == 0)
        .count() as u64;

    Some(pending * superblock.inode_table_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(set: &[(usize, &[u8])]) -> File {
        let file = tempfile::tempfile().unwrap();

        file.set_len(1 << 20).unwrap();
        file.write_all_at(&0xef53_u16.to_le_bytes(), 1024 + 0x38)
            .unwrap();
        for (offset, bytes) in set {
            file.write_all_at(bytes, 1024 + *offset as u64).unwrap();
        }
        file
    }

    #[test]
    fn an_external_journal() {
        let journal = |inode: u32, device: u32| {
            superblock(&image(&[
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
        assert!(superblock(&tempfile::tempfile().unwrap()).is_none());
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
            lazy_bytes_of(&file)
        };

        assert_eq!(lazy([4, 4, 4]), Some(0));
        assert_eq!(lazy([4, 3, 7]), Some(25_600));
        assert_eq!(lazy([0, 0, 0]), Some(76_800));
    }
}
