// SPDX-License-Identifier: GPL-2.0

//! The log of a naive bow device: as it is, it is resumed, and each block is what the history made it; damaged, it
//! is resumed or refused with a reason, and nothing is read that is not on the device.

#![no_main]

use bow_decisions::ranges::{Kind, RangeTree};
use bow_decisions::resume::{Resume, ResumeError};
use bow_fuzz::Story;
use bow_model::disk::SECTOR;
use bow_model::history::{History, Told};
use bowctl::crc::crc32;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story| {
    let Some(mut history) = story.run() else {
        return;
    };

    if !story.damage.any() && history.is_resumable() {
        same(&history, &resume(&history.disk).unwrap());
    }
    let block_size = history.block_size;
    story.damage.apply(&mut history.disk, block_size);
    match resume(&history.disk) {
        Ok(_) => {}
        Err(ResumeError::NoMemory) => panic!("there is memory"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn resume(disk: &[u8]) -> Result<RangeTree, ResumeError> {
    let sectors = disk.len() / SECTOR;
    let first = &disk[..SECTOR.min(disk.len())];
    let mut resume = Resume::new(first, sectors as u64, crc32)?;
    let mut reads = 0;

    let block_size = resume.newest().block_size;
    let Ok(read) = resume.read_all(|sector, bytes| {
        let start = sector as usize * SECTOR;

        // Each log block once, each block of the map once.
        reads += 1;
        assert!(reads <= 2 * sectors);
        assert_eq!(bytes.len() as u32, block_size);
        bytes.copy_from_slice(&disk[start..start + bytes.len()]);
        Ok::<_, std::convert::Infallible>(())
    });
    read?;
    resume.finish()
}

/// Panics unless each block is what the history made it.
fn same(history: &History, ranges: &RangeTree) {
    let block = (history.block_size / SECTOR) as u64;

    for (index, told) in history.told().into_iter().enumerate().skip(1) {
        let wanted = match told {
            Told::Unchanged => None,
            Told::Writable => Some(Kind::Writable),
            Told::Free => Some(Kind::Free),
            Told::Backup => Some(Kind::Backup),
            Told::FirstBlock => Some(Kind::FirstBlock),
        };

        assert_eq!(
            ranges.run_at(index as u64 * block).kind,
            wanted,
            "block {index}"
        );
    }
}
