// SPDX-License-Identifier: GPL-2.0

//! Histories for property tests.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::disk::SECTOR;
use crate::history::{History, Op};
use crate::log::Version;

/// A history and how it came about, so that a failure can be told.
#[derive(Clone)]
pub struct Case {
    /// Version of the log.
    pub version: Version,
    /// Bytes.
    pub block_size: usize,
    /// Blocks that are free at the checkpoint.
    pub free: Vec<bool>,
    /// Sectors of one more block that the end of the device cuts off; 0: there is none.
    pub tail: usize,
    /// Operations of the file system.
    pub ops: Vec<Op>,
    /// For all that is random beyond that.
    pub seed: u64,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let free: String = self
            .free
            .iter()
            .map(|free| if *free { '.' } else { '#' })
            .collect();

        write!(
            f,
            "{:?}, blocks of {}, {free} and {} sectors, seed {:#x}: {:?}",
            self.version, self.block_size, self.tail, self.seed, self.ops
        )
    }
}

impl Case {
    /// Runs the history; `None` if there is no free space for a checkpoint.
    pub fn run(&self) -> Option<History> {
        let mut history = History::with_tail(
            self.version,
            self.block_size,
            &self.free,
            self.tail,
            self.seed,
        )?;

        history.run(&self.ops);
        Some(history)
    }
}

/// Draws histories of at most `blocks` blocks and `ops` operations.
pub fn case(blocks: usize, ops: usize) -> impl Strategy<Value = Case> {
    let op = prop_oneof![
        12 => (0..blocks, 1..6usize).prop_map(|(block, blocks)| Op::Write { block, blocks }),
        3 => (0..blocks).prop_map(|block| Op::Discard { block }),
        1 => Just(Op::EmptyEntry),
    ];

    (
        prop_oneof![1 => Just(Version::V1_0), 1 => Just(Version::V1_1), 3 => Just(Version::V1_2)],
        prop_oneof![Just(512), Just(1024), Just(2048), Just(4096usize)],
        0..8usize,
        (4..blocks, 0.3..0.95)
            .prop_flat_map(|(blocks, free)| vec(prop::bool::weighted(free), blocks)),
        vec(op, 0..ops),
        any::<u64>(),
    )
        .prop_map(|(version, block_size, tail, free, ops, seed)| Case {
            version,
            block_size,
            free,
            tail: tail % (block_size / SECTOR),
            ops,
            seed,
        })
}
