// SPDX-License-Identifier: GPL-2.0

//! A device as the repairs see it: something to read, write and flush.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bow_decisions::log::SECTOR_SIZE;
use rustix::fs::{fadvise, fallocate, Advice, FallocateFlags, OFlags};

use crate::error::{Code, CommandError, Result};
use crate::lock::lock;
use crate::users;

/// A block device, or what stands for one. Addresses are in sectors; a write is durable only after
/// a flush, and may be torn at a sector when power fails before.
///
/// Tests have one that records writes and flushes, so as to cut them off anywhere.
pub trait BlockDevice {
    /// Returns the size in whole sectors.
    fn sectors(&self) -> u64;

    /// Fills `data` from `sector` on.
    ///
    /// # Errors
    ///
    /// The device's.
    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()>;

    /// Writes `data` from `sector` on.
    ///
    /// # Errors
    ///
    /// The device's.
    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()>;

    /// Makes `sectors` sectors from `sector` on read as zeroes. The device may unmap them.
    ///
    /// # Errors
    ///
    /// The device's.
    fn zero(&mut self, sector: u64, sectors: u64) -> io::Result<()>;

    /// Makes everything written durable.
    ///
    /// # Errors
    ///
    /// The device's.
    fn flush(&mut self) -> io::Result<()>;
}

/// Zeroes to be written at once where nothing faster works.
static ZEROES: [u8; 1 << 20] = [0; 1 << 20];

/// Purpose that a device is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// To look at it, even if it is in use.
    Look,
    /// To check it while nobody else writes to it.
    Check,
    /// To write to it while nobody else uses it.
    Write,
}

/// An open block device or image file.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    path: PathBuf,
    sectors: u64,
    /// The lock, if it is not only looked at.
    _lock: Option<File>,
}

impl FileDevice {
    /// Opens a block device or image file.
    ///
    /// A block device that is not only looked at is opened exclusively, which the kernel refuses
    /// while it is mounted or held by another device. Its whole disk, or the image file, is locked.
    ///
    /// # Errors
    ///
    /// [`Code::InUse`] names who uses the device.
    pub fn open(path: &Path, access: Access) -> Result<Self> {
        let failed = |error: io::Error| CommandError::io(path.display(), &error);
        let kind = path.metadata().map_err(failed)?.file_type();

        if !kind.is_block_device() && !kind.is_file() {
            return Err(CommandError::new(
                Code::Usage,
                format!("{}: not a block device or image file", path.display()),
            ));
        }

        let exclusive = access != Access::Look;
        let mut options = OpenOptions::new();
        options.read(true).write(access == Access::Write);
        let lock = exclusive.then(|| lock(path)).transpose()?;
        if exclusive {
            let users = users::of(path);
            if !users.is_empty() {
                return Err(users::in_use(path, &users));
            }
            if kind.is_block_device() {
                options.custom_flags(OFlags::EXCL.bits() as i32);
            }
        }

        let mut file = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => users::in_use(path, &users::of(path)),
            _ => failed(error),
        })?;
        // What the page cache holds may be older than what a device-mapper device wrote below it.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);

        let size = file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            sectors: size / SECTOR_SIZE as u64,
            _lock: lock,
        })
    }

    /// Returns the path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Returns the byte offset of a sector.
fn offset(sector: u64) -> io::Result<u64> {
    sector
        .checked_mul(SECTOR_SIZE as u64)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

impl BlockDevice for FileDevice {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(data, offset(sector)?)
    }

    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, offset(sector)?)
    }

    fn zero(&mut self, sector: u64, sectors: u64) -> io::Result<()> {
        let (start, length) = (offset(sector)?, offset(sectors)?);
        // Of a block device the first unmaps and guarantees zeroes, or fails; with the second the kernel
        // writes zeroes if the device does not make any itself.
        let made = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
            .iter()
            .any(|how| {
                let how = *how | FallocateFlags::KEEP_SIZE;

                fallocate(&self.file, how, start, length).is_ok()
            });

        if made {
            return Ok(());
        }
        let end = start.saturating_add(length);
        let mut start = start;
        while start < end {
            let length = ZEROES.len().min((end - start) as usize);

            self.file.write_all_at(&ZEROES[..length], start)?;
            start += length as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}
