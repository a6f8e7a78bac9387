// SPDX-License-Identifier: GPL-2.0

//! Right checksums for the entries of a log.

use bow_model::disk::SECTOR;
use bow_model::hostile::seal;
use bow_model::log::crc;

/// Stands for the right checksum until [`fill`] has put it there.
pub const RIGHT: u32 = 1;

/// A wrong one.
pub const WRONG: u32 = 2;

/// Offsets in an entry.
const DEST: usize = 8;
const SIZE: usize = 16;
const SUM: usize = 20;

/// Puts the checksums where they are [`RIGHT`], as a restore comes across them, and then those of
/// the log blocks. Ends where the chain does.
pub fn fill(image: &mut [u8]) {
    let origins = (0..image.len() / SECTOR).collect();

    fill_block(image, origins, None);
}

/// Does so from the log block on that a restore finds in the first block. `origins` says where on
/// the device what it finds in each sector comes from.
fn fill_block(image: &mut [u8], mut origins: Vec<usize>, expected: Option<u32>) {
    let found = gather(image, &origins, 0, 1);
    let (count, sequence) = (number(&found, 12) as usize, number(&found, 16));
    let block_size = number(&found, 8);
    let first = usize::from(found[6]);
    if !matches!(&found[..4], b"BOW\0" | b"WOB\0") || expected.is_some_and(|s| s != sequence) {
        return;
    }

    let sectors = block_size as usize / SECTOR;
    for index in (0..count).rev() {
        let at = first + index * 24;
        let log = gather(image, &origins, 0, sectors);
        let (source, dest, size) = (
            number(&log, at) as usize,
            number(&log, at + DEST) as usize,
            number(&log, at + SIZE) as usize / SECTOR,
        );
        // Where this log block is, before it is replaced.
        let places = origins[..sectors].to_vec();
        let there = size.min(origins.len().saturating_sub(source));
        if dest + size > origins.len() || size - there >= sectors {
            // No good entry: nothing goes on from here.
            seal_at(image, origins[0]);
            return;
        }
        let saved = origins[dest..dest + size].to_vec();

        // The end of the device may cut off the last block.
        origins.splice(source..source + there, saved[..there].iter().copied());
        if index == 0 && sequence > 0 {
            // Its checksum covers the log block before it, which has to be right by then.
            fill_block(image, origins.clone(), Some(sequence - 1));
        }
        if number(&log, at + SUM) == RIGHT {
            let data: Vec<u8> = saved
                .iter()
                .flat_map(|sector| image[sector * SECTOR..(sector + 1) * SECTOR].to_vec())
                .collect();
            let sum = crc((source / sectors) as u32, &data).to_le_bytes();

            for (offset, byte) in sum.iter().enumerate() {
                let at = at + SUM + offset;

                image[places[at / SECTOR] * SECTOR + at % SECTOR] = *byte;
            }
        }
        if index == 0 {
            seal_at(image, places[0]);
        }
    }
}

/// Makes the checksum of the log block right that starts at a sector of the device.
fn seal_at(image: &mut [u8], sector: usize) {
    seal(&mut image[sector * SECTOR..(sector + 1) * SECTOR]);
}

/// Returns what a restore finds in `sectors` sectors from `sector` on.
fn gather(image: &[u8], origins: &[usize], sector: usize, sectors: usize) -> Vec<u8> {
    origins[sector..sector + sectors]
        .iter()
        .flat_map(|origin| &image[origin * SECTOR..(origin + 1) * SECTOR])
        .copied()
        .collect()
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
