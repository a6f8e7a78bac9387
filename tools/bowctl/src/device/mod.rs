// SPDX-License-Identifier: GPL-2.0

//! A device as the repairs see it: something to read, write and flush, and to do much of that at a
//! time.
//!
//! [`copy`] is what is copied, [`buffer`] through which memory, and [`queue`] has several copies and
//! reads under way.

pub mod buffer;
pub mod copy;
pub mod queue;

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bow_decisions::log::SECTOR_SIZE;
use rustix::fs::{fadvise, fallocate, ioctl_blksszget, Advice, FallocateFlags, OFlags};

use self::buffer::Buffer;
use self::copy::{CopyBack, TransferError};
use self::queue::{Queue, SharedDevice};
use crate::error::{Code, CommandError, Result};
use crate::lock::lock;
use crate::users;

/// Bytes of zeroes to be written at once where nothing faster works.
const ZERO_BYTES: usize = 1 << 20;

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

    /// Reads runs of sectors, which are on the device, and returns them in the order of `reads`. A
    /// device that can have several reads under way begins some before they are asked for.
    fn read_all(&self, reads: Vec<Range<u64>>) -> impl Iterator<Item = io::Result<Buffer>> {
        reads.into_iter().map(|sectors| {
            let mut buffer = Buffer::new((sectors.end - sectors.start) as usize * SECTOR_SIZE);

            self.read_at(sectors.start, &mut buffer)?;
            Ok(buffer)
        })
    }

    /// Carries out copies, none of which reads or writes what another one writes, in any order and
    /// any number at a time, and tells `done` of the bytes of each that has ended. When it returns,
    /// none is under way.
    ///
    /// # Errors
    ///
    /// The first one. Any of the other copies may then have been made in part.
    fn copy_all(
        &mut self,
        copies: Vec<CopyBack>,
        done: &mut dyn FnMut(u64),
    ) -> std::result::Result<(), TransferError> {
        for copy in copies {
            let mut data = Buffer::new(copy.bytes());

            copy.read(&mut data, |sector, data| self.read_at(sector, data))?;
            copy.write(&data, |sector, data| self.write_at(sector, data))?;
            done(copy.bytes() as u64);
        }
        Ok(())
    }
}

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
    queue: Queue<Files>,
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
        let direct = (kind.is_block_device() && exclusive)
            .then(|| Direct::open(&file, access).ok())
            .flatten();
        Ok(Self {
            queue: Queue::new(Files { file, direct }),
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

/// A block device that is also open past the page cache, or an image file.
///
/// Large transfers go past the cache: their data is not needed twice, and a copy less is made of it. The
/// kernel writes out and drops what the cache holds of the same sectors.
#[derive(Debug)]
struct Files {
    file: File,
    direct: Option<Direct>,
}

impl Files {
    /// Returns the file for a transfer at byte `offset` that takes the addresses in `memory`.
    fn file(&self, offset: u64, memory: Range<*const u8>) -> &File {
        match &self.direct {
            Some(direct) if direct.takes(offset, memory) => &direct.file,
            _ => &self.file,
        }
    }
}

impl SharedDevice for Files {
    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        let offset = offset(sector)?;

        self.file(offset, data.as_ptr_range())
            .read_exact_at(data, offset)
    }

    fn write_at(&self, sector: u64, data: &[u8]) -> io::Result<()> {
        let offset = offset(sector)?;

        self.file(offset, data.as_ptr_range())
            .write_all_at(data, offset)
    }
}

/// A block device that is open past the page cache.
#[derive(Debug)]
struct Direct {
    file: File,
    /// Size of its logical blocks in bytes, a power of two. No transfer has less, nor a part of one.
    block: u64,
}

impl Direct {
    /// Opens the device of `file` once more, whatever its path names by now.
    fn open(file: &File, access: Access) -> io::Result<Self> {
        let block = ioctl_blksszget(file)?.into();
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Write)
            .custom_flags(OFlags::DIRECT.bits() as i32)
            .open(format!("/proc/self/fd/{}", file.as_raw_fd()))?;

        Ok(Self { file, block })
    }

    /// Returns whether a transfer is of whole blocks, and its memory as well.
    fn takes(&self, offset: u64, memory: Range<*const u8>) -> bool {
        let aligned = |number: u64| number % self.block == 0;

        aligned(offset) && aligned(memory.start.addr() as u64) && aligned(memory.end.addr() as u64)
    }
}

impl BlockDevice for FileDevice {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        self.queue.device().read_at(sector, data)
    }

    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()> {
        self.queue.device().write_at(sector, data)
    }

    fn zero(&mut self, sector: u64, sectors: u64) -> io::Result<()> {
        let device = self.queue.device();
        let (start, length) = (offset(sector)?, offset(sectors)?);
        // Of a block device the first unmaps and guarantees zeroes, or fails; with the second the kernel
        // writes zeroes if the device does not make any itself.
        let made = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE]
            .iter()
            .any(|how| {
                let how = *how | FallocateFlags::KEEP_SIZE;

                fallocate(&device.file, how, start, length).is_ok()
            });

        if made {
            return Ok(());
        }
        let zeroes = Buffer::new(ZERO_BYTES);
        let mut done = 0;
        while done < length {
            let length = zeroes.len().min((length - done) as usize);

            device.write_at(sector + done / SECTOR_SIZE as u64, &zeroes[..length])?;
            done += length as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.queue.device().file.sync_data()
    }

    fn read_all(&self, reads: Vec<Range<u64>>) -> impl Iterator<Item = io::Result<Buffer>> {
        self.queue.read_all(reads)
    }

    fn copy_all(
        &mut self,
        copies: Vec<CopyBack>,
        done: &mut dyn FnMut(u64),
    ) -> std::result::Result<(), TransferError> {
        self.queue.copy_all(copies, done)
    }
}
