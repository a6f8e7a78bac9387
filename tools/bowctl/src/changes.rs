// SPDX-License-Identifier: GPL-2.0

//! Comparison of what a log has saved with what is on the device now.

use std::ops::Range;

use bow_decisions::check::{block_sectors, READ_MAX};
use bow_decisions::log::{Header, SECTOR_SIZE};

use crate::device::BlockDevice;
use crate::recovery::carry_out::read;
use crate::recovery::{Checked, RecoveryError};

/// Reads what `sector` and those that follow hold now, as a bow device would. They are all in the
/// first block, or none of them.
///
/// # Errors
///
/// The device's.
pub fn read_now<D: BlockDevice>(
    device: &D,
    header: &Header,
    sector: u64,
    data: &mut [u8],
) -> Result<(), RecoveryError> {
    let place = match sector < block_sectors(header) {
        true => header.sector0.saturating_add(sector),
        false => sector,
    };

    read(device, place, data)
}

/// Returns whether the first block is not what it was at the checkpoint.
///
/// # Errors
///
/// The device's.
pub fn first_block_differs<D: BlockDevice>(
    device: &D,
    log: &Checked,
) -> Result<bool, RecoveryError> {
    let len = log.header.block_size as usize;
    let (mut now, mut old) = (vec![0; len], vec![0; len]);

    read_now(device, &log.header, 0, &mut now)?;
    log.read_old(device, 0, &mut old)?;
    Ok(now != old)
}

/// Returns the blocks of `spans`, merged, that are not what they were at the checkpoint. No span has
/// the first block.
///
/// # Errors
///
/// The device's.
pub fn differing<D: BlockDevice>(
    device: &D,
    log: &Checked,
    spans: &[Range<u64>],
) -> Result<Vec<Range<u64>>, RecoveryError> {
    let block = log.header.block_size as usize;
    let mut differing: Vec<Range<u64>> = Vec::new();
    let (mut now, mut old) = (vec![0; READ_MAX], vec![0; READ_MAX]);

    for span in spans {
        let mut position = span.start;

        while position < span.end {
            let sectors = (span.end - position).min((READ_MAX / SECTOR_SIZE) as u64);
            let len = sectors as usize * SECTOR_SIZE;

            read_now(device, &log.header, position, &mut now[..len])?;
            log.read_old(device, position, &mut old[..len])?;
            for (index, (now, old)) in now[..len].chunks(block).zip(old.chunks(block)).enumerate() {
                if now == &old[..now.len()] {
                    continue;
                }
                let start = position + (index * block / SECTOR_SIZE) as u64;
                let end = start + (now.len() / SECTOR_SIZE) as u64;

                match differing.last_mut() {
                    Some(last) if last.end == start => last.end = end,
                    _ => differing.push(start..end),
                }
            }
            position += sectors;
        }
    }
    Ok(differing)
}
