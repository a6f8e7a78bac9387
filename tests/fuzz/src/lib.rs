// SPDX-License-Identifier: GPL-2.0

//! Parts that the fuzz targets share.

#![forbid(unsafe_code)]

pub mod checksums;

use arbitrary::Arbitrary;
use bow_model::disk::SECTOR;
use bow_model::history::{History, Op};
use bow_model::hostile::seal;
use bow_model::log::Version;

/// Returns one of the block sizes, the smallest in most cases.
pub fn block_size(choice: u8) -> usize {
    match choice % 8 {
        0..5 => 512,
        5 => 1024,
        6 => 2048,
        _ => 4096,
    }
}

/// Returns one of the versions.
pub fn version(choice: u8) -> Version {
    // The corpora began with a choice between the first two.
    match choice % 4 {
        0 => Version::V1_0,
        1 => Version::V1_1,
        _ => Version::V1_2,
    }
}

/// Returns how many sectors of one more block a device has before it ends.
pub fn tail(choice: u8, block_size: usize) -> usize {
    usize::from(choice) % (block_size / SECTOR)
}

/// Act of the file system.
#[derive(Arbitrary, Debug)]
enum Act {
    Write { block: u8, blocks: u8 },
    Discard { block: u8 },
    EmptyEntry,
}

/// History of a naive bow device, and what is done to the device then.
#[derive(Arbitrary, Debug)]
pub struct Story {
    version: u8,
    block_size: u8,
    seed: u8,
    /// Blocks that are free, as bits; its size is that of the device.
    free: Vec<u8>,
    acts: Vec<Act>,
    /// Damage to the device at the end.
    pub damage: Damage,
}

/// Most bytes of [`Story::free`].
const FREE: usize = 12;

impl Story {
    /// Runs the history; [`None`] if there is no free space for a checkpoint.
    pub fn run(&self) -> Option<History> {
        let block_size = block_size(self.block_size);
        let free: Vec<_> = self
            .free
            .iter()
            .take(FREE)
            .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 != 0))
            .collect();
        let tail = tail(self.block_size / 8, block_size);
        let seed = self.seed.into();
        let mut history = History::with_tail(version(self.version), block_size, &free, tail, seed)?;
        let ops: Vec<_> = self
            .acts
            .iter()
            .map(|act| match *act {
                Act::Write { block, blocks } => Op::Write {
                    block: block.into(),
                    blocks: usize::from(blocks) % 6,
                },
                Act::Discard { block } => Op::Discard {
                    block: block.into(),
                },
                Act::EmptyEntry => Op::EmptyEntry,
            })
            .collect();

        history.run(&ops);
        Some(history)
    }
}

/// Damage that is done to a device.
#[derive(Arbitrary, Debug)]
pub struct Damage {
    /// Bytes that are replaced, by sector and offset in it, both modulo what there is.
    bytes: Vec<(u8, u16, u8)>,
    /// The first block's checksum is then made right.
    sealed: bool,
    /// Sectors that the device is cut to, unless 0.
    cut: u8,
}

impl Damage {
    /// Returns whether anything happens at all.
    pub fn any(&self) -> bool {
        !self.bytes.is_empty() || self.cut > 0
    }

    /// Does it.
    pub fn apply(&self, image: &mut Vec<u8>, block_size: usize) {
        for (sector, offset, value) in &self.bytes {
            let at = usize::from(*sector) * SECTOR + usize::from(*offset) % SECTOR;
            let len = image.len();

            image[at % len] = *value;
        }
        if self.sealed && !self.bytes.is_empty() {
            seal(&mut image[..block_size]);
        }
        if self.cut > 0 {
            image.truncate(usize::from(self.cut) * SECTOR);
        }
    }
}
