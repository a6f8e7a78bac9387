// SPDX-License-Identifier: GPL-2.0

//! Traces of writes to an underlying device that did not go through dm-bow while it held a
//! checkpoint.
//!
//! Such a write has no backup, so that a restore does not undo it: the result is neither the old
//! state nor the new one. The log alone does not tell. What can:
//!
//! - **The first block.** In its first sector is the log, and from version 1.1 on zeroes in the
//!   others, or the old contents with an inverted checksum ([`cover()`]). While the log replaces the first block or is replaced by it, the others hold what they
//!   had, or will have, by the words of Documentation/format.md. Anything else was written by
//!   somebody else: `e2fsck -b` puts a superblock there, and F2FS does so at a mount.
//! - **The superblock of ext2, ext3 and ext4,** where the log does not hide it (`block_size` 512
//!   and 1024). If the log has no backup of it, it was not written through dm-bow and must not be
//!   younger than the checkpoint. If it has one, nothing can be told: a file system that was mounted
//!   or remounted through dm-bow looks the same.
//!
//! A write that touched neither, nor a backup, leaves no trace. A backup that was overwritten is
//! found by its checksum.

use bow_decisions::cover::cover;
use bow_decisions::log::SECTOR_SIZE;

use super::carry_out::{read, Checked};
use super::error::RecoveryError;
use crate::device::BlockDevice;
use crate::report::utc;
use crate::superblock::Superblock;

/// The first log version in which what follows a log block's first sector has no meaning.
const ONE_SECTOR: u16 = 0x0101;

/// Returns the traces on a device whose log is `log`, a phrase each.
///
/// # Errors
///
/// The device's.
pub fn traces<D: BlockDevice>(device: &D, log: &Checked) -> Result<Vec<String>, RecoveryError> {
    let mut traces = Vec::new();

    traces.extend(first_block(device, log)?);
    traces.extend(superblock(device, log)?);
    Ok(traces)
}

/// Looks at the first block, after its first sector.
fn first_block<D: BlockDevice>(device: &D, log: &Checked) -> Result<Option<String>, RecoveryError> {
    let header = &log.header;
    let len = header.block_size as usize;

    if header.version < ONE_SECTOR || len <= SECTOR_SIZE {
        return Ok(None);
    }
    // A restore that has begun has zeroed the relocated first block, which a commit that was cut off may have
    // begun to put here before.
    if header.restoring && header.has_record() {
        return Ok(None);
    }

    let block = |sector| -> Result<Vec<u8>, RecoveryError> {
        let mut data = vec![0; len];

        read(device, sector, &mut data)?;
        Ok(data)
    };
    let found = block(0)?;
    let mut old = vec![0; len];
    log.read_old(device, 0, &mut old)?;
    let mut covered = old.clone();
    cover(&mut covered);
    // What belongs there while the checkpoint is open, after a commit, and after a restore.
    let expected = [
        vec![0; len],
        covered,
        block(header.sector0)?,
        block(log.before)?,
        old,
    ];
    let foreign = (SECTOR_SIZE..len).step_by(SECTOR_SIZE).find(|at| {
        let sector = *at..*at + SECTOR_SIZE;

        !expected
            .iter()
            .any(|data| data[sector.clone()] == found[sector.clone()])
    });
    Ok(foreign.map(|at| {
        let ext = Superblock::parse(&found).map_or_else(String::new, |ext| {
            format!(
                "; there is a superblock of ext2/3/4 there, written {}",
                utc(ext.written())
            )
        });

        format!("the log block at the beginning has been written to, at byte {at}{ext}")
    }))
}

/// Looks at the superblock of ext2, ext3 or ext4, where it is outside the first block.
fn superblock<D: BlockDevice>(device: &D, log: &Checked) -> Result<Option<String>, RecoveryError> {
    let end = Superblock::OFFSET + Superblock::LEN;
    let mut sectors = (Superblock::OFFSET / SECTOR_SIZE) as u64..(end / SECTOR_SIZE) as u64;
    let Some(identity) = log.header.identity else {
        return Ok(None);
    };

    if log.header.block_size > 1024 || device.sectors() < sectors.end {
        return Ok(None);
    }

    if sectors.any(|sector| log.is_saved(sector)) {
        return Ok(None);
    }
    let mut now = vec![0; end];
    read(device, 0, &mut now)?;
    let Some(now) = Superblock::parse(&now) else {
        return Ok(None);
    };
    let last = now.mounted().max(now.checked()).max(now.written());

    Ok((last > identity.time).then(|| {
        format!(
            "the superblock of ext2/3/4 was written {}, after the checkpoint of {}, and the log has \
             no backup of it",
            utc(last),
            utc(identity.time)
        )
    }))
}
