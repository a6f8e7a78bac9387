// SPDX-License-Identifier: GPL-2.0

//! Any bytes as a device.
//!
//! The first byte says whether the first block's checksum is made right, and how large the device
//! is beyond the bytes that follow.

#![no_main]

use bow_model::disk::SECTOR;
use bow_model::hostile::{examine, seal};
use bow_random::Random;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((how, data)) = data.split_first() else {
        return;
    };
    let mut image = data.to_vec();
    let sectors = image.len().div_ceil(SECTOR) + usize::from(how >> 1);
    let len = image.len();

    image.extend(Random::new(1).bytes(sectors * SECTOR - len));
    if how & 1 != 0 {
        seal(&mut image);
    }
    examine(&image, 2);
});
