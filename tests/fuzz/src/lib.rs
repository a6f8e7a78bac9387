// SPDX-License-Identifier: GPL-2.0

//! Parts that the fuzz targets share.

#![forbid(unsafe_code)]

pub mod checksums;

use arbitrary::Arbitrary;
use bow_model::disk::SECTOR;
use bow_model::history::Version;
use bow_model::hostile::seal;

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
