// SPDX-License-Identifier: GPL-2.0

//! A disk in memory that records what is written to it.

use std::cell::Cell;
use std::io;

use bow_random::Random;
use bowctl::crc::crc32;
use bowctl::device::buffer::Buffer;
use bowctl::device::copy::{CopyBack, TransferError};
use bowctl::device::BlockDevice;

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// Request that reached a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Data for a sector and those that follow.
    Write {
        /// First sector.
        sector: u64,
        /// Whole sectors.
        data: Vec<u8>,
    },
    /// All that came before is durable.
    Flush,
}

/// A disk in memory, which has many copies under way and does them in random order.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Contents.
    pub data: Vec<u8>,
    /// Requests that reached it, in order.
    pub requests: Vec<Request>,
    /// Requests that are still served before the disk fails; `None`: all are.
    pub left: Option<usize>,
    /// Bytes that have been read.
    pub bytes_read: Cell<u64>,
    random: Random,
}

impl Disk {
    /// Returns a disk that holds `data`.
    pub fn new(data: Vec<u8>) -> Self {
        let first = &data[..data.len().min(SECTOR)];

        Self {
            // Repeatable, and another order for each log.
            random: Random::new(crc32(0, first).into()),
            data,
            requests: Vec::new(),
            left: None,
            bytes_read: Cell::new(0),
        }
    }

    fn serve(&mut self, request: Request) -> io::Result<()> {
        if let Some(left) = &mut self.left {
            *left = left
                .checked_sub(1)
                .ok_or_else(|| io::Error::other("the disk has failed"))?;
        }
        self.requests.push(request);
        Ok(())
    }
}

impl BlockDevice for Disk {
    fn sectors(&self) -> u64 {
        (self.data.len() / SECTOR) as u64
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        let start = sector as usize * SECTOR;
        let from = self
            .data
            .get(start..start + data.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;

        data.copy_from_slice(from);
        self.bytes_read
            .set(self.bytes_read.get() + data.len() as u64);
        Ok(())
    }

    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()> {
        let start = sector as usize * SECTOR;

        self.serve(Request::Write {
            sector,
            data: data.to_vec(),
        })?;
        self.data
            .get_mut(start..start + data.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        Ok(())
    }

    fn zero(&mut self, sector: u64, sectors: u64) -> io::Result<()> {
        self.write_at(sector, &vec![0; sectors as usize * SECTOR])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.serve(Request::Flush)
    }

    fn copy_all(
        &mut self,
        copies: Vec<CopyBack>,
        done: &mut dyn FnMut(u64),
    ) -> Result<(), TransferError> {
        let mut waiting = copies;
        let mut read: Vec<(CopyBack, Buffer)> = Vec::new();

        while !waiting.is_empty() || !read.is_empty() {
            let index = self.random.index(waiting.len() + read.len());

            if index < waiting.len() {
                let copy = waiting.swap_remove(index);
                let mut data = Buffer::new(copy.bytes());

                copy.read(&mut data, |sector, data| self.read_at(sector, data))?;
                read.push((copy, data));
            } else {
                let (copy, data) = read.swap_remove(index - waiting.len());

                copy.write(&data, |sector, data| self.write_at(sector, data))?;
                done(copy.bytes() as u64);
            }
        }
        Ok(())
    }
}
