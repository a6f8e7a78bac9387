// SPDX-License-Identifier: GPL-2.0

//! The log of a naive bow device: as it is, it must be restored and committed; damaged, whatever is
//! made of it must do no harm.

#![no_main]

use arbitrary::Arbitrary;
use bow_fuzz::{block_size, tail, version, Damage};
use bow_model::disk::Disk;
use bow_model::history::{History, Op};
use bow_model::hostile::examine;
use bow_model::restore::restore;
use bowctl::recovery;
use libfuzzer_sys::fuzz_target;

/// Act of the file system.
#[derive(Arbitrary, Debug)]
enum Act {
    Write { block: u8, blocks: u8 },
    Discard { block: u8 },
    EmptyEntry,
}

#[derive(Arbitrary, Debug)]
struct Input {
    version: u8,
    block_size: u8,
    seed: u8,
    /// Blocks that are free, as bits; its size is that of the device.
    free: Vec<u8>,
    acts: Vec<Act>,
    damage: Damage,
}

/// Most bytes of `free`.
const FREE: usize = 12;

fuzz_target!(|input: Input| {
    let version = version(input.version);
    let block_size = block_size(input.block_size);
    let free: Vec<_> = input
        .free
        .iter()
        .take(FREE)
        .flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 != 0))
        .collect();
    let tail = tail(input.block_size / 8, block_size);
    let seed = input.seed.into();
    let Some(mut history) = History::with_tail(version, block_size, &free, tail, seed) else {
        return;
    };
    let ops: Vec<_> = input
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

    if !input.damage.any() {
        let mut old = Disk::new(history.disk.clone());
        restore(&mut old).unwrap();
        history.assert_rolled_back(&old.data, "rolled back");
        let mut new = Disk::new(history.disk.clone());
        recovery::commit(&mut new).unwrap();
        history.assert(&new.data, history.kept(), "kept");
    }
    let mut image = history.disk;
    input.damage.apply(&mut image, block_size);
    let outcome = examine(&image, 2);
    assert!(input.damage.any() || (outcome.restored && outcome.kept));
});
