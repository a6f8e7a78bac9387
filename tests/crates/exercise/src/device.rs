// SPDX-License-Identifier: GPL-2.0

//! A block device (or an image file) and the operations that become bios.

use crate::ioctl;
use crate::range::Range;
use crate::range::SECTOR;
use crate::Failure;
use rustix::fs::FallocateFlags;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::IoSlice;
use std::io::Seek;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Alignment in memory that any device accepts for direct I/O.
const PAGE: usize = 4096;

pub(crate) struct Device {
    file: File,
    block_device: bool,
    sectors: u64,
    /// Logical block, in sectors: the unit of every operation.
    unit: u64,
}

/// Caching mode that a device is opened in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Caching {
    Direct,
    Buffered,
}

impl Device {
    pub(crate) fn open(path: &Path, caching: Caching) -> Result<Self, Failure> {
        let wrong = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", path.display()));
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let direct = || {
            let flags = OFlags::DIRECT.bits() as i32;
            options.clone().custom_flags(flags).open(path)
        };
        let file = match caching {
            // An image on a file system without direct I/O still has a content.
            Caching::Direct => direct().or_else(|e| {
                if e.raw_os_error() == Some(Errno::INVAL.raw_os_error()) {
                    options.open(path)
                } else {
                    Err(e)
                }
            }),
            Caching::Buffered => options.open(path),
        };
        let mut file = file.map_err(|e| wrong(&e))?;
        let kind = file.metadata().map_err(|e| wrong(&e))?.file_type();
        let block_device = kind.is_block_device();
        if !block_device && !kind.is_file() {
            return Err(wrong(&"neither a block device nor a file"));
        }
        let bytes = file
            .seek(std::io::SeekFrom::End(0))
            .map_err(|e| wrong(&e))?;
        let unit = if block_device {
            u64::from(rustix::fs::ioctl_blksszget(&file).map_err(|e| wrong(&e))?) / SECTOR as u64
        } else {
            1
        };
        Ok(Self {
            file,
            block_device,
            sectors: bytes / SECTOR as u64,
            unit,
        })
    }

    /// Returns the whole device.
    pub(crate) fn extent(&self) -> Range {
        Range::new(0, self.sectors)
    }

    /// Returns the logical block in sectors.
    pub(crate) fn unit(&self) -> u64 {
        self.unit
    }

    pub(crate) fn read(&self, range: Range, buffer: &mut Buffer) -> Result<(), Errno> {
        let data = buffer.slice_mut(range);
        errno(self.file.read_exact_at(data, range.offset_bytes()))
    }

    pub(crate) fn write(&self, range: Range, buffer: &Buffer) -> Result<(), Errno> {
        errno(
            self.file
                .write_all_at(buffer.slice(range), range.offset_bytes()),
        )
    }

    /// Writes with FUA, or with what the kernel puts in its place.
    pub(crate) fn write_fua(&self, range: Range, buffer: &Buffer) -> Result<(), Errno> {
        let mut data = buffer.slice(range);
        let mut at = range.offset_bytes();
        while !data.is_empty() {
            let done =
                rustix::io::pwritev2(&self.file, &[IoSlice::new(data)], at, ReadWriteFlags::DSYNC)?;
            data = &data[done..];
            at += done as u64;
        }
        Ok(())
    }

    pub(crate) fn flush(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.file)
    }

    /// Discards a range; on a file, punches a hole.
    pub(crate) fn discard(&self, range: Range) -> Result<(), Errno> {
        if self.block_device {
            ioctl::discard(&self.file, [range.offset_bytes(), range.bytes()])
        } else {
            self.punch(range)
        }
    }

    /// Zeroes a range by ioctl: without unmapping where the device can tell.
    pub(crate) fn zero_out(&self, range: Range) -> Result<(), Errno> {
        if self.block_device {
            ioctl::zero_out(&self.file, [range.offset_bytes(), range.bytes()])
        } else {
            self.zero_range(range)
        }
    }

    /// Zeroes a range by fallocate.
    pub(crate) fn zero_range(&self, range: Range) -> Result<(), Errno> {
        self.fallocate(FallocateFlags::ZERO_RANGE, range)
    }

    /// Zeroes a range by write zeroes with unmap and no other way:
    /// `EOPNOTSUPP` where the device cannot.
    pub(crate) fn punch(&self, range: Range) -> Result<(), Errno> {
        self.fallocate(FallocateFlags::PUNCH_HOLE, range)
    }

    fn fallocate(&self, how: FallocateFlags, range: Range) -> Result<(), Errno> {
        rustix::fs::fallocate(
            &self.file,
            how | FallocateFlags::KEEP_SIZE,
            range.offset_bytes(),
            range.bytes(),
        )
    }
}

fn errno(result: std::io::Result<()>) -> Result<(), Errno> {
    result.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))
}

/// Memory for direct I/O. `shift` moves the data off the page boundary, so that
/// bios have segments that start and end inside pages.
pub(crate) struct Buffer {
    memory: Vec<u8>,
    start: usize,
}

impl Buffer {
    pub(crate) fn new(sectors: u64, shift: u64) -> Self {
        let shift = shift as usize * SECTOR % PAGE;
        let memory = vec![0; sectors as usize * SECTOR + PAGE + shift];
        let start = memory.as_ptr().align_offset(PAGE) + shift;
        Self { memory, start }
    }

    pub(crate) fn slice(&self, range: Range) -> &[u8] {
        &self.memory[self.start..][..range.bytes() as usize]
    }

    pub(crate) fn slice_mut(&mut self, range: Range) -> &mut [u8] {
        &mut self.memory[self.start..][..range.bytes() as usize]
    }
}
