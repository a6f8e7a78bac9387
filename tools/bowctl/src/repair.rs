// SPDX-License-Identifier: GPL-2.0

//! Checking a log, restoring the old state, keeping the new one, on a [`BlockDevice`].
//!
//! The decisions are those of [`bow_decisions`]; this carries them out.

use std::io;

use bow_decisions::log::{Header, LogError, BLOCK_SIZE_MAX, SECTOR_SIZE};
use bow_decisions::replay::{Check, Finding, Invalid, Limits, Summary, READ_MAX};
use bow_decisions::restore::{KeepNew, Refusal, Restore, Step};
use thiserror::Error;

use crate::crc::crc32;
use crate::device::BlockDevice;
use crate::progress::Progress;

/// How many times the device's size a log's entries may come to in all, unless the user says
/// otherwise.
pub const BUDGET_FACTOR: u64 = 64;

/// The mean number of pieces that the data of a log's entries may lie in, unless the user says
/// otherwise.
pub const PIECES: u64 = 64;

/// Why a repair ended.
#[derive(Debug, Error)]
pub enum RepairError {
    /// There is no log on the device.
    #[error("there is no log in the first block")]
    NoLog,
    /// The log cannot be used. Nothing was written.
    #[error("the log is damaged: {0}")]
    Invalid(Invalid),
    /// A restore has begun.
    #[error("a restore has begun and has not finished")]
    Restoring,
    /// The log that was checked is no longer what is found. This is a bug, or somebody else writes
    /// to the device.
    #[error("the log changed while it was being restored: {0}")]
    Changed(Invalid),
    /// There is not enough memory.
    #[error("not enough memory to follow the log")]
    NoMemory,
    /// A read failed.
    #[error("reading {len} bytes at sector {sector}: {error}")]
    Read {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
        /// The device's error.
        error: io::Error,
    },
    /// A write failed.
    #[error("writing {len} bytes at sector {sector}: {error}")]
    Write {
        /// First sector.
        sector: u64,
        /// Bytes.
        len: usize,
        /// The device's error.
        error: io::Error,
    },
    /// A flush failed.
    #[error("flushing: {0}")]
    Flush(io::Error),
}

impl From<Invalid> for RepairError {
    fn from(invalid: Invalid) -> Self {
        match invalid {
            Invalid::Block {
                sector: 0,
                error: LogError::Magic(_),
            } => Self::NoLog,
            Invalid::NoMemory => Self::NoMemory,
            invalid => Self::Invalid(invalid),
        }
    }
}

/// How a log is checked.
#[derive(Clone, Copy, Debug)]
pub struct CheckOptions {
    /// Read the saved data and compare its checksums.
    pub verify: bool,
    /// What the log may ask for; `None`: [`BUDGET_FACTOR`] times the device in bytes, and
    /// [`PIECES`].
    pub limits: Option<Limits>,
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
    /// The header of the newest log block.
    pub header: Header,
    /// Where the newest log block says that its place is backed up.
    pub before: u64,
    /// What the log comes to.
    pub summary: Summary,
    check: Box<Check>,
}

impl Checked {
    /// Whether the log has old contents for `sector`.
    pub fn is_saved(&self, sector: u64) -> bool {
        self.check.restored(sector, 1).data != sector
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
    ) -> Result<(), RepairError> {
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
) -> Result<Checked, RepairError> {
    let sectors = device.sectors();
    let limits = options.limits.unwrap_or(Limits {
        bytes: sectors
            .saturating_mul(SECTOR_SIZE as u64)
            .saturating_mul(BUDGET_FACTOR),
        pieces: PIECES,
    });
    let first = read_first(device)?;
    let mut check = Box::new(Check::new(&first, sectors, limits, options.verify, crc32)?);
    let header = *check.header();
    let mut before = None;
    let mut buffer = vec![0; READ_MAX];

    loop {
        let finding = check.next()?;

        observe(&finding);
        match finding {
            Finding::Read { sector, len } => {
                let data = &mut buffer[..len];

                read(device, sector, data)?;
                check.feed(data)?;
                progress.advance(len as u64);
            }
            Finding::Entry { index: 0, entry } => {
                before.get_or_insert(entry.dest);
            }
            Finding::Block { .. } | Finding::Entry { .. } => {}
            Finding::Valid(summary) => {
                return Ok(Checked {
                    header,
                    before: before.unwrap_or_default(),
                    summary,
                    check,
                })
            }
        }
    }
}

/// Gives `device` back the state that it had at the checkpoint. Its log must have been checked.
///
/// # Errors
///
/// If the device errs. The restore can then be begun again, and again come to the same end.
pub fn restore<D: BlockDevice>(device: &mut D, progress: &mut Progress) -> Result<(), RepairError> {
    let first = read_first(device)?;
    let mut restore = Restore::new(&first, device.sectors(), crc32)?;
    let mut buffer = vec![0; READ_MAX];

    loop {
        let step = restore.next().map_err(changed)?;

        if let Step::Copy { bytes, .. } = step {
            copy(device, step, &mut buffer)?;
            progress.advance(bytes.into());
        } else if let Some(data) = carry_out(device, step)? {
            restore.feed(&data).map_err(changed)?;
        } else if step == Step::Done {
            return Ok(());
        }
    }
}

/// Keeps the new state of `device`: puts the live contents of its first block back in place.
///
/// # Errors
///
/// If there is no usable log, or a restore has begun, or the device errs.
pub fn keep_new<D: BlockDevice>(device: &mut D) -> Result<(), RepairError> {
    let first = read_first(device)?;
    let mut keep = KeepNew::new(&first, device.sectors(), crc32).map_err(refused)?;

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

/// Whether the new state can be kept, and the header that says so. Writes nothing.
///
/// # Errors
///
/// As [`keep_new`].
pub fn can_keep_new<D: BlockDevice>(device: &D) -> Result<Header, RepairError> {
    let first = read_first(device)?;

    KeepNew::new(&first, device.sectors(), crc32).map_err(refused)?;
    header(device)
}

/// The header of the newest log block.
///
/// # Errors
///
/// If there is none, or it is damaged.
pub fn header<D: BlockDevice>(device: &D) -> Result<Header, RepairError> {
    let first = read_first(device)?;

    Header::parse(&first, crc32)
        .map_err(|error| RepairError::from(Invalid::Block { sector: 0, error }))
}

/// The first bytes of the device: as many as the largest log block has, or fewer.
fn read_first<D: BlockDevice>(device: &D) -> Result<Vec<u8>, RepairError> {
    let sectors = device
        .sectors()
        .min(u64::from(BLOCK_SIZE_MAX) / SECTOR_SIZE as u64);
    let mut first = vec![0; sectors as usize * SECTOR_SIZE];

    if first.is_empty() {
        return Err(RepairError::NoLog);
    }
    read(device, 0, &mut first)?;
    Ok(first)
}

/// What goes wrong with a log that has been checked.
fn changed(invalid: Invalid) -> RepairError {
    match invalid {
        Invalid::NoMemory => RepairError::NoMemory,
        invalid => RepairError::Changed(invalid),
    }
}

fn refused(refusal: Refusal) -> RepairError {
    match refusal {
        Refusal::Invalid(invalid) => invalid.into(),
        Refusal::Restoring => RepairError::Restoring,
    }
}

/// Reads from a device.
pub(crate) fn read<D: BlockDevice>(
    device: &D,
    sector: u64,
    data: &mut [u8],
) -> Result<(), RepairError> {
    let len = data.len();

    device
        .read_at(sector, data)
        .map_err(|error| RepairError::Read { sector, len, error })
}

fn write<D: BlockDevice>(device: &mut D, sector: u64, data: &[u8]) -> Result<(), RepairError> {
    let len = data.len();

    device
        .write_at(sector, data)
        .map_err(|error| RepairError::Write { sector, len, error })
}

/// Carries out a step other than a copy. Returns what was read.
fn carry_out<D: BlockDevice>(
    device: &mut D,
    step: Step<'_>,
) -> Result<Option<Vec<u8>>, RepairError> {
    match step {
        Step::Read { sector, len } => {
            let mut data = vec![0; len];

            read(device, sector, &mut data)?;
            return Ok(Some(data));
        }
        Step::WriteFirst(data) => write(device, 0, data)?,
        Step::Flush => device.flush().map_err(RepairError::Flush)?,
        Step::Copy { .. } | Step::Done => {}
    }
    Ok(None)
}

/// Carries out a copy.
fn copy<D: BlockDevice>(
    device: &mut D,
    step: Step<'_>,
    buffer: &mut [u8],
) -> Result<(), RepairError> {
    let Step::Copy { from, to, bytes } = step else {
        return Ok(());
    };
    let bytes = bytes as usize;
    let mut done = 0;

    while done < bytes {
        let len = buffer.len().min(bytes - done);
        let data = &mut buffer[..len];
        let sectors = (done / SECTOR_SIZE) as u64;

        read(device, from + sectors, data)?;
        write(device, to + sectors, data)?;
        done += len;
    }
    Ok(())
}
