// SPDX-License-Identifier: GPL-2.0

//! Contents of the first block of the device after its first sector, while a checkpoint is open.
//!
//! The log is in the first sector. The others have no meaning to those who read the log. They decide who finds a
//! file system on the underlying device: nobody shall mount it, but a boot loader shall find the kernel on it.
//!
//! With blocks of 2048 or 4096 bytes the superblock of ext4 is among them. If it has a checksum, they keep the old
//! contents of the block, but for this checksum, which is inverted. The kernel, `blkid` and `e2fsck` look at it and
//! refuse the superblock. GRUB does not look at it, and finds the files. Its view is that of the device as it is:
//! all but the first block is in place. What it takes from the first block itself, which is the geometry of the
//! file system, does not change with an update.
//!
//! Otherwise they are zero.

use super::checkpoint::Checkpoint;
use kernel::prelude::*;

/// Size of the sectors that the log has for itself.
const LOG_BYTES: usize = super::log::SECTOR_SIZE;

/// Offset of the superblock on the device, and its size.
const SUPERBLOCK: core::ops::Range<usize> = 1024..2048;

/// Offsets in the superblock.
mod at {
    pub(super) const MAGIC: usize = 0x38;
    pub(super) const RO_COMPAT: usize = 0x64;
    pub(super) const CHECKSUM_TYPE: usize = 0x175;
    pub(super) const CHECKSUM: usize = 0x3fc;
}

/// Magic of ext2, ext3 and ext4.
const MAGIC: [u8; 2] = [0x53, 0xef];

/// In the second byte of the features: metadata has checksums, the superblock too.
const METADATA_CSUM: u8 = 0x04;

/// Checksum type: CRC-32C.
const CRC32C: u8 = 1;

/// Turns `block`, the old contents of the first block, into what the block is to hold after its first sector.
///
/// Applied again, this changes nothing.
pub fn cover(block: &mut [u8]) {
    let superblock = block.get_mut(SUPERBLOCK);
    if let Some(field) = superblock.and_then(checksum_to_invert) {
        *field = field.map(|byte| !byte);
    } else if !is_covered(block) {
        block.get_mut(LOG_BYTES..).unwrap_or_default().fill(0);
    }
}

/// Returns the checksum of a superblock if it is right.
fn checksum_to_invert(superblock: &mut [u8]) -> Option<&mut [u8; 4]> {
    let computed = checksum(superblock)?;
    superblock
        .get_mut(at::CHECKSUM..)?
        .first_chunk_mut()
        .filter(|recorded| **recorded == computed)
}

/// Returns whether `block` has a superblock whose checksum is inverted.
fn is_covered(block: &[u8]) -> bool {
    let covered = || {
        let superblock = block.get(SUPERBLOCK)?;
        let recorded: &[u8; 4] = superblock.get(at::CHECKSUM..)?.first_chunk()?;
        Some(checksum(superblock)?.map(|byte| !byte) == *recorded)
    };
    covered().unwrap_or(false)
}

/// Computes the checksum of a superblock; [`None`] if it is no superblock with one.
fn checksum(superblock: &[u8]) -> Option<[u8; 4]> {
    let is_ext4 = superblock.get(at::MAGIC..)?.starts_with(&MAGIC)
        && superblock.get(at::RO_COMPAT + 1)? & METADATA_CSUM != 0
        && *superblock.get(at::CHECKSUM_TYPE)? == CRC32C;
    is_ext4.then_some(())?;
    Some(crc32c(superblock.get(..at::CHECKSUM)?).to_le_bytes())
}

/// Computes the raw CRC-32C of `data`, from a seed of all ones, with no inversion after. Bit by bit, which is fast
/// enough for once in a checkpoint.
fn crc32c(data: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc: u32, _| {
            (crc >> 1) ^ (POLYNOMIAL & (crc & 1).wrapping_neg())
        })
    })
}

impl Checkpoint {
    /// Takes the old contents of the first block, with which `read` fills a block, for what stands after the log.
    ///
    /// # Errors
    ///
    /// That of `read`.
    pub fn set_cover(&mut self, read: impl FnOnce(&mut [u8]) -> Result) -> Result {
        read(&mut self.cover)?;
        cover(&mut self.cover);
        Ok(())
    }

    /// Returns a block; all but its first sector is what stands after the log in the first block.
    pub fn cover(&self) -> &[u8] {
        &self.cover
    }
}
