// SPDX-License-Identifier: GPL-2.0

//! Resuming the logs of the model, against what the model knows of each block.

use bow_model::disk::SECTOR;
use bow_model::history::{History, Told};
use bow_model::log::{crc, Version};
use bow_model::strategy::case;
use proptest::prelude::*;

use crate::decisions::ranges::{Kind, RangeTree};
use crate::decisions::resume::{Resume, ResumeError};

/// Resumes what `disk` holds. Returns the ranges, and how many reads it took.
fn resume(disk: &[u8]) -> Result<(RangeTree, usize), ResumeError> {
    // The entries of version 1.0 fill the block.
    let first = &disk[..disk.len().min(4096)];
    let mut resume = Resume::new(first, (disk.len() / SECTOR) as u64, crc)?;
    let mut reads = 0;

    let Ok(read) = resume.read_all(|sector, bytes| {
        let start = sector as usize * SECTOR;

        bytes.copy_from_slice(&disk[start..start + bytes.len()]);
        reads += 1;
        Ok::<_, std::convert::Infallible>(())
    });
    read?;
    Ok((resume.finish()?, reads))
}

fn compare(history: &History) {
    let (ranges, reads) = resume(&history.disk).unwrap();
    let block = (history.block_size / SECTOR) as u64;

    ranges.check();
    // All log blocks but the newest, and the map.
    let wanted = history.log_blocks() - 1 + u64::from(history.map.1);
    assert_eq!(reads as u64, wanted);
    for (index, told) in history.told().into_iter().enumerate().skip(1) {
        let start = index as u64 * block;
        let wanted = match told {
            Told::Unchanged => None,
            Told::Writable => Some(Kind::Writable),
            Told::Free => Some(Kind::Free),
            Told::Backup => Some(Kind::Backup),
            Told::FirstBlock => Some(Kind::FirstBlock),
        };

        for sector in start..start + block {
            let kind = ranges.run_at(sector).kind;
            assert_eq!(kind, wanted, "sector {sector} of block {index}");
        }
    }
    // The first block is the log's.
    assert_eq!(ranges.run_at(0).kind, None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_block_is_what_the_history_made_it(case in case(200, 100)) {
        let Some(history) = case.run() else {
            return Ok(());
        };

        match case.version {
            Version::V1_0 => prop_assert_eq!(
                resume(&history.disk).err(),
                Some(ResumeError::Version(0x0100))
            ),
            Version::V1_1 => prop_assert_eq!(
                resume(&history.disk).err(),
                Some(ResumeError::Version(0x0101))
            ),
            Version::V1_2 if history.map.0 == 0 => {
                prop_assert_eq!(resume(&history.disk).err(), Some(ResumeError::NoFreeMap));
            }
            Version::V1_2 => compare(&history),
        }
    }
}
