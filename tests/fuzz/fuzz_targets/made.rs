// SPDX-License-Identifier: GPL-2.0

//! A log with any entries, but with the right checksums where it is not said otherwise: what no
//! target would write, and what gets past the first looks all the same.

#![no_main]

use arbitrary::Arbitrary;
use bow_decisions::log::Entry;
use bow_fuzz::checksums::{fill, RIGHT, WRONG};
use bow_fuzz::{block_size, tail, version, Damage};
use bow_model::disk::SECTOR;
use bow_model::hostile::{examine, Log};
use bow_model::log::Version;
use bow_random::Random;
use libfuzzer_sys::fuzz_target;

/// A log block to be. What is a place is in blocks, modulo the device's size.
#[derive(Arbitrary, Debug)]
struct Block {
    sector0: u8,
    /// Place that it is saved at. The newest is in the first block.
    place: u8,
    /// Blocks of the oldest's entry 0.
    first: u8,
    entries: Vec<Saved>,
}

#[derive(Arbitrary, Debug)]
struct Saved {
    source: u8,
    dest: u8,
    /// Modulo what makes sense, in most cases.
    blocks: u8,
    /// Choice of whether it makes sense, and of its checksum.
    how: u8,
}

#[derive(Arbitrary, Debug)]
struct Input {
    version: u8,
    restoring: bool,
    block_size: u8,
    blocks: u8,
    seed: u8,
    /// The newest first.
    chain: Vec<Block>,
    damage: Damage,
}

/// Most log blocks, and blocks of a device.
const CHAIN: usize = 8;
const BLOCKS: u64 = 56;

fuzz_target!(|input: Input| {
    if input.chain.is_empty() {
        return;
    }
    let block_size = block_size(input.block_size);
    let sectors = (block_size / SECTOR) as u64;
    let blocks = 4 + u64::from(input.blocks) % BLOCKS;
    let version = version(input.version);
    let tail = tail(input.blocks / BLOCKS as u8, block_size);
    let size = blocks as usize * block_size + tail * SECTOR;
    let mut image = Random::new(input.seed.into()).bytes(size);
    let chain = &input.chain[..input.chain.len().min(CHAIN)];
    // Any block but the first.
    let place = |block: u8| 1 + u64::from(block) % (blocks - 1);
    // Sources may reach into the last block, which the end of the device may cut off.
    let end = blocks + u64::from(tail > 0);

    // The oldest first, so that of two in one place the newer is there.
    for (index, block) in chain.iter().enumerate().rev() {
        let older = chain.get(index + 1);
        let saved = place(older.map_or(block.place, |older| older.place));
        // The first block's backup may go on behind it.
        let first = match older {
            Some(_) => 1,
            None => (1 + u64::from(block.first % 4))
                .min(saved)
                .min(blocks - saved),
        };
        let mut log = Log {
            version,
            restoring: input.restoring && index == 0,
            block_size: block_size as u32,
            sequence: (chain.len() - index - 1) as u32,
            sector0: place(block.sector0) * sectors,
            uuid: 7,
            entries: vec![Entry {
                source: 0,
                dest: saved * sectors,
                size: first as u32 * block_size as u32,
                checksum: RIGHT,
            }],
        };
        let room = match version {
            Version::V1_0 => block_size,
            Version::V1_1 | Version::V1_2 => SECTOR,
        };
        log.entries.extend(block.entries.iter().map(|saved| {
            let (source, dest) = (1 + u64::from(saved.source) % (end - 1), place(saved.dest));
            let most = match saved.how & 7 {
                0 => u64::MAX,
                _ => (end - source).min(blocks - dest).min(source.abs_diff(dest)),
            };

            Entry {
                source: source * sectors,
                dest: dest * sectors,
                size: u64::from(saved.blocks % 16).min(most) as u32 * block_size as u32,
                checksum: match saved.how >> 4 {
                    0..8 => 0,
                    8..15 => RIGHT,
                    _ => WRONG,
                },
            }
        }));
        log.entries.truncate((room - log.header_size()) / 24);

        let at = if index == 0 {
            0
        } else {
            place(block.place) as usize * block_size
        };
        let bytes = log.bytes();
        image[at..at + bytes.len()].copy_from_slice(&bytes);
    }
    fill(&mut image);
    input.damage.apply(&mut image, block_size);
    examine(&image, 2);
});
