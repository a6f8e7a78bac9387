// SPDX-License-Identifier: GPL-2.0

//! Dangers of a rollback without a record of free space, which depend on the file system.
//!
//! A restore gives back what was not free at the checkpoint, and zeroes what has been written to free
//! space since. If the log does not say what that is, it stays there, and some file systems read free
//! space later on.

use bow_decisions::log::SECTOR_SIZE;

use super::carry_out::{read, Checked};
use super::error::RecoveryError;
use super::leftovers::Record;
use crate::device::BlockDevice;

/// Returns what the user is to be told after the restore of a device that is opened by `shown`: nothing if
/// the log has a good record of free space. To be called before the restore.
///
/// # Errors
///
/// The device's.
pub fn advice<D: BlockDevice>(
    device: &D,
    log: &Checked,
    shown: &str,
) -> Result<Option<String>, RecoveryError> {
    let reason = match &log.record {
        Record::Good(_) => return Ok(None),
        Record::None => "the log has no record of it".to_owned(),
        Record::Damaged(error) => error.to_string(),
    };
    let danger = danger(device, log, shown)?;

    Ok(Some(format!(
        "What was written to free space after the checkpoint is still there, because {reason}. {danger}"
    )))
}

/// Returns what follows for the file system that was there at the checkpoint.
fn danger<D: BlockDevice>(device: &D, log: &Checked, shown: &str) -> Result<String, RecoveryError> {
    let mut start = [0; 4 * SECTOR_SIZE];

    if device.sectors() >= 4 {
        log.read_old(device, 0, &mut start)?;
    }
    if start.starts_with(b"XFSB") {
        return xfs(device, log, &start, shown);
    }
    Ok(match (&start[1024..1028], &start[1030..1032]) {
        (b"\x10\x20\xf5\xf2", _) => format!(
            "This is F2FS, which at a mount looks for files in blocks that it calls free. Mount it by \
             `mount -o ro,norecovery {shown}`, which shows what it held at the checkpoint, copy that, \
             and make a new file system."
        ),
        (_, b"\x34\x34") => "This is NILFS2, which at a mount goes on to the newest log segment that it \
             finds, in free space too: what was to be undone may come back. Look at what is there \
             before it is used."
            .to_owned(),
        _ => "`fstrim`, once the file system is mounted again, discards it.".to_owned(),
    })
}

/// Returns the advice for XFS, whose superblock at the checkpoint is at the beginning of `start`.
///
/// Each piece of metadata bears the position in the journal that it was last written at. Journal
/// recovery takes what is on the device for newer than the journal if that position is higher, and
/// the journal has been taken back. So it must begin beyond all that was ever written.
fn xfs<D: BlockDevice>(
    device: &D,
    log: &Checked,
    start: &[u8],
    shown: &str,
) -> Result<String, RecoveryError> {
    let cure = match cycle(device, start)? {
        // The journal may have been taken back already.
        Some(_) if log.header.restoring => format!(
            "Before it is used, mount it and unmount it again, which empties its journal, and then give the journal a \
             cycle that is higher than any before (`xfs_db -x -c 'logformat -c N' {shown}`). Which that is cannot be \
             told any more, since the restore had begun before."
        ),
        Some(cycle) => format!(
            "Before it is used, mount it and unmount it again, which empties its journal, and then move \
             the journal beyond that: `xfs_db -x -c 'logformat -c {}' {shown}`.",
            // Where it has just begun anew, the first sector has not been written yet.
            cycle.saturating_add(2)
        ),
        None => format!(
            "Its journal is on another device: run `xfs_repair {shown}` with that one, or give the \
             journal a cycle that is higher than any before (`xfs_db -x -c 'logformat -c N'`)."
        ),
    };

    Ok(format!(
        "This is XFS: after a power cut the journal's recovery could take metadata there for newer than \
         the journal; the file system would then not mount. {cure}"
    ))
}

/// Returns the cycle of the journal as it is now; `None` if that is on another device.
fn cycle<D: BlockDevice>(device: &D, start: &[u8]) -> Result<Option<u32>, RecoveryError> {
    let word = |at: usize| u32::from_be_bytes(start[at..at + 4].try_into().unwrap_or_default());
    let journal = (u64::from(word(48)) << 32) | u64::from(word(52));
    let block_sectors = u64::from(word(4)) / SECTOR_SIZE as u64;
    // The number of an allocation group, and of a block in it.
    let bits = u32::from(start[124]);
    let group = journal.checked_shr(bits).unwrap_or_default();
    let block = journal & 1_u64.checked_shl(bits).unwrap_or_default().wrapping_sub(1);
    let sector = group
        .checked_mul(u64::from(word(84)))
        .and_then(|blocks| blocks.checked_add(block)?.checked_mul(block_sectors))
        .filter(|sector| *sector > 0 && *sector < device.sectors());
    let Some(sector) = sector else {
        return Ok(None);
    };
    let mut data = [0; SECTOR_SIZE];

    read(device, sector, &mut data)?;
    // A record's header has a magic before the cycle, other sectors begin with it.
    let at = if data.starts_with(&[0xfe, 0xed, 0xba, 0xbe]) {
        4
    } else {
        0
    };
    Ok(Some(u32::from_be_bytes(
        data[at..at + 4].try_into().unwrap_or_default(),
    )))
}
