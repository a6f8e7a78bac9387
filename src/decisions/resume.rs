// SPDX-License-Identifier: GPL-2.0

//! Resuming: the ranges of a checkpoint, rebuilt from its log.
//!
//! The log is read as a restore would read it ([`Check`]), from the newest log block to the oldest and in each
//! from the last entry to the first; the saved data is not read. Then the free map is read, where the
//! restore would find it.
//!
//! # What a sector is
//!
//! The newest entry that names a sector decides:
//!
//! - The entry's dest has it: it holds a backup or a full log block.
//! - The entry's source has it: its old contents are elsewhere, so it is writable.
//!
//! A sector that no entry names:
//!
//! - If the free map does not have it, it is unchanged.
//! - If the free map has it and a grant does, it is writable: the file system may have written to it.
//! - If the free map has it and no grant does, it is free.
//!
//! A grant does not decide as other entries do, since its sectors may include places of backups. A place that
//! was reserved when power failed is named by no durable log block. So its contents do not matter, and it
//! counts as what it was before.

use super::{
    block_size::BlockSize,
    check::{
        sectors,
        Check,
        Finding,
        Limits, //
    },
    check_error::CheckError,
    free_map::{
        MapError,
        MapReader, //
    },
    log::{
        Crc32,
        Entry,
        Header,
        BLOCK_SIZE_MAX,
        VERSION_1_2, //
    },
    ranges::{
        Kind,
        Nodes,
        RangeTree,
        Run, //
    },
};
use core::ops::Range as Span;
use kernel::{
    fmt,
    prelude::*, //
};

/// Limits of a log that is resumed: those of `bowctl` when nothing else is asked for.
const LIMITS: Limits = Limits {
    bytes: u64::MAX,
    pieces: 64,
};

/// Nodes that one change of a tree takes.
const NODES: usize = RangeTree::NODES_PER_SET;

/// Reason why a checkpoint cannot be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeError {
    /// The log is damaged.
    Check(CheckError),
    /// The log is of a version that is too old or too new.
    Version(u16),
    /// A restore has begun.
    Restoring,
    /// The log has no free map.
    NoFreeMap,
    /// The free map is damaged.
    Map(MapError),
    /// There is not enough memory.
    NoMemory,
}

impl fmt::Display for ResumeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Check(error) => {
                f.write_str("the log is damaged: ")?;
                fmt::Display::fmt(error, f)
            }
            Self::Version(version) => write!(
                f,
                "the log is of version {}.{}, and only 1.2 can be resumed",
                version >> 8,
                version & 0xff
            ),
            Self::Restoring => f.write_str("a restore has begun and has not finished"),
            Self::NoFreeMap => f.write_str("the log has no free map"),
            Self::Map(error) => fmt::Display::fmt(error, f),
            Self::NoMemory => f.write_str("not enough memory"),
        }
    }
}

impl From<CheckError> for ResumeError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::NoMemory => Self::NoMemory,
            error => Self::Check(error),
        }
    }
}

impl From<MapError> for ResumeError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<Error> for ResumeError {
    /// Converts the error of an allocation: nothing else fails here.
    fn from(_: Error) -> Self {
        Self::NoMemory
    }
}

/// Read that [`Resume::next`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    /// First sector.
    sector: u64,
    /// Number of bytes: one block.
    bytes: usize,
}

/// A checkpoint that is being rebuilt. See the [module](self).
pub struct Resume {
    check: KBox<Check>,
    crc32: Crc32,
    /// Header of the newest log block.
    newest: Header,
    block: BlockSize,
    /// Size of the device in sectors.
    sectors: u64,
    /// Places that hold backups, full log blocks, the relocated first block and the free map; then everything
    /// else.
    ranges: RangeTree,
    /// Sectors of all grants, of kind [`Kind::Writable`].
    granted: RangeTree,
    nodes: Nodes,
    /// Number of sectors in the free map.
    free_at_first: u64,
    /// Reader of the free map, once the log has been read.
    map: Option<MapReader>,
}

impl Resume {
    /// Begins to rebuild the checkpoint of a device of `sectors` sectors. `first` is the device's first sector or
    /// more. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`ResumeError`].
    pub fn new(first: &[u8], sectors: u64, crc32: Crc32) -> Result<KBox<Self>, ResumeError> {
        let check = Self::check(first, sectors, crc32)?;
        let newest = *check.header();
        if newest.version != VERSION_1_2 {
            return Err(ResumeError::Version(newest.version));
        }
        if newest.restoring {
            return Err(ResumeError::Restoring);
        }
        if newest.free_map.is_none() {
            return Err(ResumeError::NoFreeMap);
        }
        let block = BlockSize::of(&newest);
        let resume = Self {
            check,
            crc32,
            newest,
            block,
            sectors,
            ranges: RangeTree::new(),
            granted: RangeTree::new(),
            nodes: Nodes::new(NODES, GFP_KERNEL)?,
            free_at_first: 0,
            map: None,
        };
        let first_block = newest.sector0..newest.sector0.saturating_add(block.sectors());
        let mut resume = KBox::new(resume, GFP_KERNEL).map_err(|_| ResumeError::NoMemory)?;
        resume.set(first_block, Kind::FirstBlock)?;
        Ok(resume)
    }

    /// Begins to check the log. Not inlined, for the sake of the stack.
    #[inline(never)]
    fn check(first: &[u8], sectors: u64, crc32: Crc32) -> Result<KBox<Check>, ResumeError> {
        let check = Check::new(first, sectors, LIMITS, false, crc32)?;
        KBox::new(check, GFP_KERNEL).map_err(|_| ResumeError::NoMemory)
    }

    /// Returns the header of the newest log block.
    pub fn newest(&self) -> &Header {
        &self.newest
    }

    /// Returns the number of sectors that were free at the checkpoint, once all has been read.
    pub fn free_at_first(&self) -> u64 {
        self.free_at_first
    }

    /// Reads all of the log and of the free map: calls `read` with the sector of each block, and with the bytes to be
    /// filled. Sleeps.
    ///
    /// # Errors
    ///
    /// That of `read`, or else, within the result, the first thing that is wrong, as a [`ResumeError`].
    pub fn read_all<E>(
        &mut self,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<Result<(), ResumeError>, E> {
        let mut block = KVec::new();
        loop {
            let wanted = match self.next() {
                Ok(Some(wanted)) => wanted,
                Ok(None) => return Ok(Ok(())),
                Err(error) => return Ok(Err(error)),
            };
            if block.resize(wanted.bytes, 0, GFP_KERNEL).is_err() {
                return Ok(Err(ResumeError::NoMemory));
            }
            read(wanted.sector, &mut block)?;
            if let Err(error) = self.feed(&block) {
                return Ok(Err(error));
            }
        }
    }

    /// Goes on as far as possible. Returns what has to be read and [fed](Self::feed) next; [`None`] when all has
    /// been read. Sleeps.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a [`ResumeError`].
    fn next(&mut self) -> Result<Option<Read>, ResumeError> {
        if let Some(map) = &self.map {
            let Some(sector) = map.next() else {
                return Ok(None);
            };
            let place = self.check.restored(sector, self.block.sectors());
            if place.data == sector {
                let end = sector.saturating_add(place.sectors);
                self.fill(sector..end, &[None, Some(Kind::Free)], Kind::Backup)?;
            }
            return Ok(Some(Read {
                sector: place.data,
                bytes: self.block.bytes() as usize,
            }));
        }
        loop {
            match self.check.next()? {
                Finding::Read { sector, len } => {
                    return Ok(Some(Read {
                        sector,
                        bytes: len.min(BLOCK_SIZE_MAX as usize),
                    }))
                }
                Finding::Block { header, .. } if header.version != VERSION_1_2 => {
                    return Err(ResumeError::Version(header.version))
                }
                Finding::Block { .. } => {}
                Finding::Entry { entry, .. } => self.add(&entry)?,
                Finding::Valid(_) => {
                    let map = self.newest.free_map.ok_or(ResumeError::NoFreeMap)?;
                    self.map = Some(MapReader::new(map, self.block, self.sectors)?);
                    return self.next();
                }
            }
        }
    }

    /// Takes the bytes that [`next`](Self::next) asked for. Sleeps.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, as a [`ResumeError`].
    fn feed(&mut self, bytes: &[u8]) -> Result<(), ResumeError> {
        let Some(mut map) = self.map.take() else {
            return Ok(self.check.feed(bytes)?);
        };
        map.read(bytes, self.sectors, self.crc32, |extent| {
            let sectors = extent.end.saturating_sub(extent.start);
            self.free_at_first = self.free_at_first.saturating_add(sectors);
            self.fill(extent, &[None], Kind::Free)
        })?;
        self.map = Some(map);
        Ok(())
    }

    /// Returns the first sector of the backup of the first block, when all has been read. To be called before
    /// [`finish`](Self::finish).
    pub fn first_block_backup(&self) -> u64 {
        self.check.restored(0, self.block.sectors()).data
    }

    /// Ends rebuilding, when all has been read. Returns the ranges, which satisfy the invariants of a
    /// [`Checkpoint`](super::checkpoint::Checkpoint). Sleeps.
    ///
    /// # Errors
    ///
    /// [`ResumeError::NoMemory`].
    pub fn finish(&mut self) -> Result<RangeTree, ResumeError> {
        while let Some(source) = self.check.take_source() {
            let source = source.start.max(self.block.sectors())..source.end;
            self.fill(source, &[None, Some(Kind::Free)], Kind::Writable)?;
        }
        let mut position = 0;
        while let Some(run) = self.granted.first_from(position, |_| true) {
            self.fill(run.start..run.end, &[Some(Kind::Free)], Kind::Writable)?;
            position = run.end;
        }
        Ok(core::mem::replace(&mut self.ranges, RangeTree::new()))
    }

    /// Adds an entry of a good log. All newer entries have been added.
    fn add(&mut self, entry: &Entry) -> Result<(), ResumeError> {
        if let Some(granted) = entry.granted() {
            self.nodes.fill(GFP_KERNEL)?;
            let granted = self.block.down(granted.start)..self.block.up(granted.end);
            return Ok(self
                .granted
                .set(granted, Some(Kind::Writable), &mut self.nodes)?);
        }
        let end = entry.dest.saturating_add(sectors(entry.size));
        let mut position = entry.dest;
        while position < end {
            let place = self.check.restored(position, end.saturating_sub(position));
            let next = position.saturating_add(place.sectors.max(1));
            // If the data is not here, a newer entry has moved it away, and the place is its source.
            if place.data == position {
                self.fill(position..next, &[None], Kind::Backup)?;
            }
            position = next;
        }
        Ok(())
    }

    /// Makes those sectors of `span` that are of one of the kinds `from` of kind `to`.
    fn fill(
        &mut self,
        span: Span<u64>,
        from: &[Option<Kind>],
        to: Kind,
    ) -> Result<(), ResumeError> {
        let mut position = span.start;
        while position < span.end {
            let run: Run = self.ranges.run_at(position);
            let end = run.end.min(span.end);
            if from.contains(&run.kind) {
                self.set(position..end, to)?;
            }
            position = end;
        }
        Ok(())
    }

    /// Makes the sectors of `span` of kind `kind`.
    fn set(&mut self, span: Span<u64>, kind: Kind) -> Result<(), ResumeError> {
        self.nodes.fill(GFP_KERNEL)?;
        Ok(self.ranges.set(span, Some(kind), &mut self.nodes)?)
    }
}
