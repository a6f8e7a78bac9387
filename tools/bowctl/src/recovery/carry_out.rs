// SPDX-License-Identifier: GPL-2.0

//! Checking a log, restoring the old state, keeping the new one, on a [`BlockDevice`].
//!
//! The decisions are those of [`Check`], [`Restore`] and [`Commit`]; this carries them out.

use std::ops::Range;

use bow_decisions::log::{Header, BLOCK_SIZE_MAX, SECTOR_SIZE};
use bow_decisions::resume::Resume;

use super::batch::Batch;
use super::commit::Commit;
use super::error::{CheckError, CommitError, RecoveryError};
use super::first_block::{relocated, Step};
use super::leftovers::{Leftovers, Record};
use super::read_ahead::{Place, ReadAhead};
use super::restore::Restore;
use crate::crc::crc32;
use crate::device::copy::{CopyBack, TransferError};
use crate::device::BlockDevice;
use crate::progress::Progress;
use bow_decisions::check::{sectors, Check, Finding, Limits, Summary};

/// Limit for a log's entries in all, as a multiple of the device's size, unless the user says
/// otherwise.
pub const BUDGET_FACTOR: u64 = 64;

/// The mean number of pieces that the data of a log's entries may lie in, unless the user says
/// otherwise.
pub const PIECES: u64 = 64;

/// Largest range in sectors that is zeroed at once, so that progress can be shown.
const ZERO_MAX: u64 = (64 << 20) / SECTOR_SIZE as u64;

/// Options of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Read the saved data and compare its checksums.
    pub verify: bool,
    /// Limits of what the log may ask for; `None`: [`BUDGET_FACTOR`] times the device in bytes, and
    /// [`PIECES`].
    pub limits: Option<Limits>,
}

impl CheckOptions {
    /// Options for a log of which saved data is not read, however much there is.
    pub const LOG_ONLY: Self = Self {
        verify: false,
        limits: Some(Limits {
            bytes: u64::MAX,
            pieces: PIECES,
        }),
    };
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            verify: true,
            limits: None,
        }
    }
}

/// A log that has been checked.
pub struct Checked {
    /// Header of the newest log block.
    pub header: Header,
    /// Sector at which the newest log block says that its place is backed up.
    pub before: u64,
    /// Totals of the log.
    pub summary: Summary,
    /// Record of free space.
    pub record: Record,
    check: Box<Check>,
}

impl Checked {
    /// Returns whether the log has old contents for `sector`.
    pub fn is_saved(&self, sector: u64) -> bool {
        self.check.restored(sector, 1).data != sector
    }

    /// Returns the sector that holds what a restore would give `sector`.
    pub fn place(&self, sector: u64) -> u64 {
        self.check.restored(sector, 1).data
    }

    /// Reads what a restore would give `sector` and those that follow.
    ///
    /// # Errors
    ///
    /// The device's.
    pub fn read_old<D: BlockDevice>(
        &self,
        device: &D,
        mut sector: u64,
        mut data: &mut [u8],
    ) -> Result<(), RecoveryError> {
        while !data.is_empty() {
            let piece = self
                .check
                .restored(sector, (data.len() / SECTOR_SIZE) as u64);
            let (now, rest) = data.split_at_mut(piece.sectors as usize * SECTOR_SIZE);

            read(device, piece.data, now)?;
            sector += piece.sectors;
            data = rest;
        }
        Ok(())
    }
}

/// Checks the whole log of `device`, and tells `observe` of each log block and entry. Writes
/// nothing.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn check<D: BlockDevice>(
    device: &D,
    options: CheckOptions,
    progress: &mut Progress,
    mut observe: impl FnMut(&Finding),
) -> Result<Checked, RecoveryError> {
    let sectors = device.sectors();
    let limits = options.limits.unwrap_or(Limits {
        bytes: sectors
            .saturating_mul(SECTOR_SIZE as u64)
            .saturating_mul(BUDGET_FACTOR),
        pieces: PIECES,
    });
    let mut block = read_first(device)?;
    let mut check = Box::new(Check::new(&block, sectors, limits, options.verify, crc32)?);
    let header = Header {
        sector0: relocated(check.header(), &block),
        ..*check.header()
    };
    let mut place = Place::new(header, Vec::new());
    let mut ahead = ReadAhead::new(device);
    let mut before = None;
    let mut blocks = 0;
    let mut bytes = 0_u64;
    let mut leftovers = Leftovers::new(&header);

    loop {
        let finding = check.next()?;

        observe(&finding);
        match finding {
            Finding::Read { sector, len } => {
                let data = ahead.read(sector, len, &check, &place)?;

                check.feed(data)?;
                if place.is_in_entry() {
                    place.checked_data(len);
                    progress.advance(len as u64);
                } else {
                    block = data.to_vec();
                }
            }
            Finding::Block { header, .. } => {
                leftovers.add_block(&header);
                place = Place::new(header, std::mem::take(&mut block));
                blocks += 1;
                bytes = bytes.saturating_add(place.bytes());
                // Those still to come are taken to be like these.
                let rest = (bytes / blocks).saturating_mul(header.sequence.into());
                progress.expect(bytes.saturating_add(rest));
            }
            Finding::Entry { index, entry } => {
                place.checked_entry(index);
                if index == 0 {
                    before.get_or_insert(entry.dest);
                }
                leftovers.add_entry(&entry, &check);
            }
            Finding::Valid(summary) => {
                let record = leftovers.finish(&check, sectors, |sector, data| {
                    progress.advance(data.len() as u64);
                    read(device, sector, data)
                });

                return Ok(Checked {
                    header,
                    before: before.unwrap_or_default(),
                    summary,
                    record,
                    check,
                });
            }
        }
    }
}

/// Gives `device` back the state that it had at the checkpoint. `log` is its log, as a [`check`] that verified
/// the saved data has just found it.
///
/// # Errors
///
/// If the device errs. The restore can then be begun again, and again come to the same end.
pub fn restore<D: BlockDevice>(
    device: &mut D,
    log: &Checked,
    progress: &mut Progress,
) -> Result<(), RecoveryError> {
    restore_hiding(device, log, false, progress)
}

/// [Restores](restore), and if `hides` is set, [hides](Restore::hiding) the file system from boot loaders meanwhile.
///
/// # Errors
///
/// As [`restore`].
pub fn restore_hiding<D: BlockDevice>(
    device: &mut D,
    log: &Checked,
    hides: bool,
    progress: &mut Progress,
) -> Result<(), RecoveryError> {
    let first = read_first(device)?;
    let leftovers = log.record.leftovers();
    let mut restore = Restore::new(&first, device.sectors(), leftovers, crc32)?.hiding(hides);
    let mut batch = Batch::default();

    loop {
        let step = restore.next().map_err(changed)?;

        if let Step::Copy { from, to, bytes } = step {
            let copy = CopyBack {
                from,
                to,
                sectors: sectors(bytes),
            };

            if !batch.takes(copy) {
                copy_all(device, &mut batch, progress)?;
            }
            batch.push(copy);
            continue;
        }
        // No other step begins before all copies have ended.
        copy_all(device, &mut batch, progress)?;
        if let Step::Zero { sector, sectors } = step {
            zero(device, sector..sector.saturating_add(sectors), progress)?;
        } else if let Some(data) = carry_out(device, step)? {
            restore.feed(&data).map_err(changed)?;
        } else if step == Step::Done {
            return Ok(());
        }
    }
}

/// Keeps the new state of `device`: puts the relocated first block back in place.
///
/// # Errors
///
/// If there is no usable log, or a restore has begun, or the device errs.
pub fn commit<D: BlockDevice>(device: &mut D) -> Result<(), RecoveryError> {
    let first = read_first(device)?;
    let mut keep = Commit::new(&first, device.sectors(), crc32).map_err(refused)?;

    loop {
        let step = keep.next();

        if step == Step::Done {
            return Ok(());
        }
        if let Some(data) = carry_out(device, step)? {
            keep.feed(&data).map_err(refused)?;
        }
    }
}

/// Returns the header of the newest log block, if the new state can be kept. Writes nothing.
///
/// # Errors
///
/// As [`commit`].
pub fn can_commit<D: BlockDevice>(device: &D) -> Result<Header, RecoveryError> {
    let first = read_first(device)?;

    Commit::new(&first, device.sectors(), crc32).map_err(refused)?;
    header(device)
}

/// Checks whether the target can resume the checkpoint on `device`: reads the log as the target does. Returns the
/// header of the newest log block. Writes nothing.
///
/// # Errors
///
/// The reason why the checkpoint cannot be resumed, or the device's.
pub fn can_resume<D: BlockDevice>(device: &D) -> Result<Header, RecoveryError> {
    let first = read_first(device)?;
    let mut resume = Resume::new(&first, device.sectors(), crc32)?;

    resume.read_all(|sector, data| read(device, sector, data))??;
    Ok(*resume.newest())
}

/// Reads the header of the newest log block.
///
/// # Errors
///
/// If there is none, or it is damaged.
pub fn header<D: BlockDevice>(device: &D) -> Result<Header, RecoveryError> {
    let first = read_first(device)?;

    Header::parse(&first, crc32)
        .map_err(|error| RecoveryError::from(CheckError::Block { sector: 0, error }))
}

/// Reads the first bytes of the device: as many as the largest log block has, or fewer.
fn read_first<D: BlockDevice>(device: &D) -> Result<Vec<u8>, RecoveryError> {
    let sectors = device
        .sectors()
        .min(u64::from(BLOCK_SIZE_MAX) / SECTOR_SIZE as u64);
    let mut first = vec![0; sectors as usize * SECTOR_SIZE];

    if first.is_empty() {
        return Err(RecoveryError::NoLog);
    }
    read(device, 0, &mut first)?;
    Ok(first)
}

/// Returns the error for a log that went wrong after it had been checked.
fn changed(invalid: CheckError) -> RecoveryError {
    match invalid {
        CheckError::NoMemory => RecoveryError::NoMemory,
        invalid => RecoveryError::Changed(invalid),
    }
}

fn refused(refusal: CommitError) -> RecoveryError {
    match refusal {
        CommitError::Invalid(invalid) => invalid.into(),
        CommitError::Restoring => RecoveryError::Restoring,
    }
}

/// Reads from a device.
pub(crate) fn read<D: BlockDevice>(
    device: &D,
    sector: u64,
    data: &mut [u8],
) -> Result<(), RecoveryError> {
    let len = data.len();

    device
        .read_at(sector, data)
        .map_err(|error| TransferError::Read { sector, len, error }.into())
}

fn write<D: BlockDevice>(device: &mut D, sector: u64, data: &[u8]) -> Result<(), RecoveryError> {
    let len = data.len();

    device
        .write_at(sector, data)
        .map_err(|error| TransferError::Write { sector, len, error }.into())
}

/// Carries out a step other than a copy. Returns what was read.
fn carry_out<D: BlockDevice>(
    device: &mut D,
    step: Step<'_>,
) -> Result<Option<Vec<u8>>, RecoveryError> {
    match step {
        Step::Read { sector, len } => {
            let mut data = vec![0; len];

            read(device, sector, &mut data)?;
            return Ok(Some(data));
        }
        Step::WriteFirst(data) => write(device, 0, data)?,
        Step::Flush => device.flush().map_err(RecoveryError::Flush)?,
        Step::Copy { .. } | Step::Zero { .. } | Step::Done => {}
    }
    Ok(None)
}

/// Makes the sectors of `span` read as zeroes.
fn zero<D: BlockDevice>(
    device: &mut D,
    span: Range<u64>,
    progress: &mut Progress,
) -> Result<(), RecoveryError> {
    let mut sector = span.start;

    while sector < span.end {
        let sectors = ZERO_MAX.min(span.end - sector);

        device
            .zero(sector, sectors)
            .map_err(|error| RecoveryError::Zero {
                sector,
                sectors,
                error,
            })?;
        progress.advance(sectors * SECTOR_SIZE as u64);
        sector += sectors;
    }
    Ok(())
}

/// Carries out the copies of a batch, and leaves it empty.
fn copy_all<D: BlockDevice>(
    device: &mut D,
    batch: &mut Batch,
    progress: &mut Progress,
) -> Result<(), RecoveryError> {
    Ok(device.copy_all(batch.take(), &mut |bytes| progress.advance(bytes))?)
}
