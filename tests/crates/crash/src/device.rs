// SPDX-License-Identifier: GPL-2.0

//! The device that a power cut has left, for `bowctl` to work on. It notes what is written to it.

use crate::contents::{Contents, Id, SECTOR};
use bowctl::device::BlockDevice;
use std::io;
use std::ops::Range;

/// Byte of the contents that nobody has written before.
const NEW: u8 = 0xb0;

/// Request that reached the device.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Write {
        /// First sector.
        sector: u32,
        ids: Vec<Id>,
    },
    Flush,
}

/// A device of which each sector is the number of a content.
#[derive(Clone)]
pub(crate) struct Device<'a> {
    contents: &'a Contents,
    /// Contents of each sector.
    pub(crate) sectors: Vec<Id>,
    /// Contents that are in no recording, such as log blocks that a restore has marked. Their
    /// numbers follow those of `contents`.
    extra: Vec<[u8; SECTOR]>,
    /// Requests that have reached it, in order.
    pub(crate) requests: Vec<Request>,
}

impl<'a> Device<'a> {
    pub(crate) fn new(contents: &'a Contents, sectors: Vec<Id>) -> Self {
        Self {
            contents,
            sectors,
            extra: Vec::new(),
            requests: Vec::new(),
        }
    }

    /// Returns the same device with other contents, known to this one, and nothing written yet.
    pub(crate) fn with(&self, sectors: Vec<Id>) -> Self {
        Self {
            contents: self.contents,
            sectors,
            extra: self.extra.clone(),
            requests: Vec::new(),
        }
    }

    pub(crate) fn sector(&self, sector: usize) -> &[u8; SECTOR] {
        let id = self.sectors[sector];
        self.contents
            .get(id)
            .unwrap_or_else(|| &self.extra[id as usize - self.contents.len()])
    }

    /// Returns all that the device holds.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.sectors.len() * SECTOR);
        for sector in 0..self.sectors.len() {
            bytes.extend_from_slice(self.sector(sector));
        }
        bytes
    }

    fn id(&mut self, data: &[u8; SECTOR]) -> Id {
        if let Some(id) = self.contents.find(data) {
            return id;
        }
        let known = self.extra.iter().rposition(|extra| extra == data);
        let at = known.unwrap_or_else(|| {
            self.extra.push(*data);
            self.extra.len() - 1
        });
        (self.contents.len() + at) as Id
    }

    /// Returns a content that nobody has written before.
    pub(crate) fn new_content(&mut self) -> Id {
        let id = self.contents.len() + self.extra.len();
        let mut data = [NEW; SECTOR];
        data[..size_of::<usize>()].copy_from_slice(&id.to_le_bytes());
        self.extra.push(data);
        id as Id
    }

    /// Returns whether `sector` holds a [new content](Self::new_content).
    pub(crate) fn is_new(&self, sector: usize) -> bool {
        self.sector(sector)[size_of::<usize>()..]
            .iter()
            .all(|&byte| byte == NEW)
    }

    /// Returns where `len` bytes from `sector` on lie.
    fn range(&self, sector: u64, len: usize) -> io::Result<Range<usize>> {
        let start = usize::try_from(sector).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.saturating_add(len / SECTOR);
        if len % SECTOR != 0 || end > self.sectors.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(start..end)
    }
}

impl BlockDevice for Device<'_> {
    fn sectors(&self) -> u64 {
        self.sectors.len() as u64
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> io::Result<()> {
        let range = self.range(sector, data.len())?;
        for (sector, data) in range.zip(data.chunks_exact_mut(SECTOR)) {
            data.copy_from_slice(self.sector(sector));
        }
        Ok(())
    }

    fn write_at(&mut self, sector: u64, data: &[u8]) -> io::Result<()> {
        let range = self.range(sector, data.len())?;
        let ids: Vec<_> = data
            .chunks_exact(SECTOR)
            .map(|data| self.id(data.try_into().expect("a sector")))
            .collect();
        self.sectors[range.clone()].copy_from_slice(&ids);
        self.requests.push(Request::Write {
            sector: range.start as u32,
            ids,
        });
        Ok(())
    }

    fn zero(&mut self, sector: u64, sectors: u64) -> io::Result<()> {
        self.write_at(sector, &vec![0; sectors as usize * SECTOR])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.requests.push(Request::Flush);
        Ok(())
    }
}
