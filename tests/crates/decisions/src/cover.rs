// SPDX-License-Identifier: GPL-2.0

//! Sectors after the log: a superblock that only a boot loader takes, or zeroes.

use crate::decisions::cover::cover;
use proptest::prelude::*;

/// Returns the raw CRC-32C, by a table, of all ones.
fn crc32c(data: &[u8]) -> u32 {
    let table: Vec<u32> = (0..256_u32)
        .map(|byte| {
            (0..8).fold(byte, |crc, _| match crc & 1 {
                1 => 0x82f6_3b78 ^ (crc >> 1),
                _ => crc >> 1,
            })
        })
        .collect();

    data.iter().fold(!0, |crc, byte| {
        table[(crc as u8 ^ byte) as usize] ^ (crc >> 8)
    })
}

/// Returns a first block of random bytes with the superblock of an ext4 that has checksums, and a right one.
fn ext4(bytes: &[u8]) -> Vec<u8> {
    let mut block = bytes.to_vec();

    block[1024 + 0x38..][..2].copy_from_slice(&[0x53, 0xef]);
    block[1024 + 0x65] |= 0x04;
    block[1024 + 0x175] = 1;
    let checksum = crc32c(&block[1024..2044]);
    block[2044..2048].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn covered(block: &[u8]) -> Vec<u8> {
    let mut block = block.to_vec();

    cover(&mut block);
    block
}

#[test]
fn the_checksum_is_crc32c() {
    // The check value of CRC-32C, which inverts after.
    assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
}

proptest! {
    #[test]
    fn only_the_checksum_of_a_superblock_changes(
        bytes in proptest::collection::vec(any::<u8>(), 4096),
        len in prop_oneof![Just(2048), Just(4096)],
    ) {
        let block = ext4(&bytes[..len]);
        let found = covered(&block);

        prop_assert_eq!(&found[..2044], &block[..2044]);
        prop_assert_eq!(&found[2048..], &block[2048..]);
        for (found, right) in found[2044..2048].iter().zip(&block[2044..2048]) {
            prop_assert_eq!(*found, !right);
        }
        prop_assert_eq!(covered(&found), found);
    }

    /// Whoever looks at the checksum must find it wrong; so a superblock whose checksum cannot be made wrong, or is
    /// wrong already, does not stay.
    #[test]
    fn all_else_is_zeroed(
        bytes in proptest::collection::vec(any::<u8>(), 4096),
        len in prop_oneof![Just(512), Just(1024), Just(2048), Just(4096)],
        at in 1024..2048_usize,
        flip in 1..=255_u8,
    ) {
        let random = &bytes[..len];
        let mut damaged = ext4(&bytes);
        damaged[at] ^= flip;
        let mut without = ext4(&bytes);
        without[1024 + 0x65] &= !0x04;

        for block in [random, &damaged, &without] {
            let found = covered(block);

            // A flip of the feature's other bits may have found the checksum's inverse: not in this life.
            prop_assert_eq!(&found[..512], &block[..512]);
            prop_assert!(found[512..].iter().all(|byte| *byte == 0));
            prop_assert_eq!(covered(&found), found);
        }
    }
}
