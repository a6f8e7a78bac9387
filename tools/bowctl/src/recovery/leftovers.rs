// SPDX-License-Identifier: GPL-2.0

//! Leftovers: what the file system wrote to free space since the checkpoint.
//!
//! The saved data gives back what was not free at the checkpoint. What was free then holds what has been
//! written to it since, and some file systems read free space later on and take that for their own. So a
//! restore writes zeroes there, from what a log of version 1.2 records: the free map says what was free,
//! the grants and the entries say what of that the file system may have written to.
//!
//! # Sectors that are zeroed
//!
//! - Of the free map: what a grant has, unless an entry names it. The source of an entry needs no zeroes, since
//!   the restore writes to it. The dest of one, unless it is a source too, holds a backup or a full log block.
//! - The place of the relocated first block, if it is in the free map or the source of an entry. The restore
//!   copies what is there, which is new, to the places that it was moved from; so it copies zeroes.
//!
//! But nothing that the restore reads: the places of backups, full log blocks and blocks of the free map.
//! These hold what is as old as the checkpoint, or the log's own data, and stay. An entry that moves the
//! relocated first block does read it, but nothing depends on the contents, which have no checksum.
//!
//! # Why zeroes come first
//!
//! They come after the mark that says that a restore has begun, and before the first copy, with a flush
//! between. As the restore goes on it drops entries and log blocks, and grants with them; so what is to be
//! zeroed could not be found again if power failed later. As it is:
//!
//! - *Power fails before the flush after the zeroes.* The log has all its entries. The next restore finds the
//!   same set.
//! - *Power fails later.* Everything has been zeroed, and the copies that followed have written nothing but
//!   saved data, log blocks, blocks of the map, and zeroes. The next restore zeroes what the rest of the log
//!   leads it to; that need not be everything. The source of an entry has been written to when the entry is no
//!   longer counted, and will be until then.
//!
//! # Why zeroes destroy nothing
//!
//! The set is made anew from the log that is left, each time a restore begins. Let a sector be in it.
//!
//! - *No entry that is left reads the sector's present contents*, nor does the check of these entries: all
//!   that is read was taken out, where the simulated restore found it. If the restore reads the sector
//!   after a copy has written to it, this copy is still to be made, as its entry is left; so it comes after
//!   the zeroes. (Between two marks a copy may have been made already: it is repeated, and what it reads was
//!   taken out too.)
//! - *No copy that is no longer counted has restored it for good.* If the sector is in the free map, its
//!   contents at the end do not matter. Otherwise it is the source of an entry that is left, and will be
//!   written.
//! - *The free map stays*, for the same reason as the saved data: its blocks are read where the restore would
//!   find them, and these places were taken out. A copy that brings a block of the map home is dropped by a
//!   mark before its source may be overwritten. So each restore finds the same map.
//!
//! A sector may be zeroed by a restore that is repeated and not by the first: a place of a backup within a
//! grant, once the backup is home. Both contents are allowed there.

use std::fmt;
use std::ops::Range;

use bow_decisions::block_size::BlockSize;
use bow_decisions::check::{block_sectors, sectors, Check};
use bow_decisions::free_map::{MapError, MapReader};
use bow_decisions::log::{Entry, FreeMap, Header};

use super::error::RecoveryError;
use super::sector_set::SectorSet;
use crate::crc::crc32;

/// Record of free space that a log has.
#[derive(Debug)]
pub enum Record {
    /// None: the log is older than version 1.2, or has no free map.
    None,
    /// One that cannot be used.
    Damaged(RecordError),
    /// A good one.
    Good(FreeSpace),
}

/// Facts from a good record of free space.
#[derive(Debug)]
pub struct FreeSpace {
    /// Sectors that were free at the checkpoint.
    pub free: SectorSet,
    /// Places of the blocks of the free map.
    pub map: SectorSet,
    /// Those of them that the file system has been granted.
    pub granted: SectorSet,
    /// Sectors to be zeroed before the restore copies anything.
    pub leftovers: SectorSet,
}

impl Record {
    /// Returns the sectors to be zeroed.
    pub fn leftovers(&self) -> SectorSet {
        match self {
            Self::Good(space) => space.leftovers.clone(),
            Self::None | Self::Damaged(_) => SectorSet::default(),
        }
    }
}

/// Reason why a record of free space cannot be used.
#[derive(Debug)]
pub enum RecordError {
    /// The free map is damaged.
    Map(MapError),
    /// It cannot be read.
    Read(RecoveryError),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Read(error) => write!(f, "the free map cannot be read: {error}"),
        }
    }
}

impl From<MapError> for RecordError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// Facts that are collected while a log is checked, from its newest log block to the oldest.
pub struct Leftovers {
    /// Header of the newest log block.
    newest: Header,
    /// Header of the log block at hand.
    header: Header,
    /// Sectors of the untouched device that a restore reads.
    read: Vec<Range<u64>>,
    /// Sources of entries.
    sources: Vec<Range<u64>>,
    granted: Vec<Range<u64>>,
}

impl Leftovers {
    /// Begins with the header of the newest log block.
    pub fn new(newest: &Header) -> Self {
        Self {
            newest: *newest,
            header: *newest,
            read: Vec::new(),
            sources: Vec::new(),
            granted: Vec::new(),
        }
    }

    /// Takes the header of a log block that `check` has found.
    pub fn add_block(&mut self, header: &Header) {
        self.header = *header;
    }

    /// Takes an entry that `check` has just found.
    pub fn add_entry(&mut self, entry: &Entry, check: &Check) {
        // Without a map nothing of this is needed.
        if self.newest.free_map.is_none() {
            return;
        }
        if entry.size == 0 {
            self.granted
                .extend(entry.granted().filter(|_| self.header.has_record()));
            return;
        }
        let mut sector = entry.dest;
        let end = entry.dest.saturating_add(sectors(entry.size));

        self.sources
            .push(entry.source..entry.source.saturating_add(sectors(entry.size)));
        while sector < end {
            // An entry does not overlap itself, so its dest is found as it was before the entry.
            let piece = check.restored(sector, end - sector);
            let read = piece.data..piece.data.saturating_add(piece.sectors);

            let is_first_block = read == first_block(&self.newest);

            // Entry 0 of a log block never moves the relocated first block.
            if !is_first_block || entry.checksum != 0 || entry.source == 0 {
                self.read.push(read);
            }
            sector = sector.saturating_add(piece.sectors.max(1));
        }
    }

    /// Reads the free map of a device of `sectors` sectors, whose log `check` has found good, by `read`.
    /// Returns the record of free space.
    pub fn finish(
        self,
        check: &Check,
        sectors: u64,
        read: impl FnMut(u64, &mut [u8]) -> Result<(), RecoveryError>,
    ) -> Record {
        let Some(map) = self.newest.free_map else {
            return Record::None;
        };
        match self.read_map(map, check, sectors, read) {
            Ok(space) => Record::Good(space),
            Err(error) => Record::Damaged(error),
        }
    }

    fn read_map(
        mut self,
        map: FreeMap,
        check: &Check,
        sectors: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), RecoveryError>,
    ) -> Result<FreeSpace, RecordError> {
        let block = BlockSize::of(&self.newest);
        let mut places = Vec::new();
        let free = free_extents(map, block, sectors, |sector, bytes| {
            let place = check.restored(sector, block.sectors()).data;

            places.push(place..place.saturating_add(block.sectors()));
            read(place, bytes)
        })?;

        self.read.extend(places.iter().cloned());
        Ok(self.sets(block, free, places.into_iter().collect()))
    }

    /// Works out the sets, when everything has been collected.
    fn sets(self, block: BlockSize, free: SectorSet, map: SectorSet) -> FreeSpace {
        let granted: SectorSet = self
            .granted
            .into_iter()
            // Grants are of whole blocks, whatever a log says.
            .map(|span| block.down(span.start)..block.up(span.end))
            .collect();
        let granted = granted.intersection(&free);
        let sources: SectorSet = self.sources.into_iter().collect();
        let first_block: SectorSet = std::iter::once(first_block(&self.newest)).collect();
        // The first block of the device is the log's, and replaced at the end.
        let needed: SectorSet = self
            .read
            .into_iter()
            .chain(std::iter::once(0..block.sectors()))
            .collect();
        let leftovers: SectorSet = [
            granted.difference(&sources),
            first_block.intersection(&free),
            first_block.intersection(&sources),
        ]
        .into_iter()
        .flatten()
        .collect();

        FreeSpace {
            leftovers: leftovers.difference(&needed),
            free,
            map,
            granted,
        }
    }
}

/// Reads `map`, the free map of a device of `sectors` sectors: `read` is given the sector that each block of the
/// map was written to at first. Returns what was free at the checkpoint.
///
/// # Errors
///
/// A [`RecordError`].
pub fn free_extents(
    map: FreeMap,
    block: BlockSize,
    sectors: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<(), RecoveryError>,
) -> Result<SectorSet, RecordError> {
    let mut free = Vec::new();
    let mut bytes = vec![0; block.bytes() as usize];
    let mut reader = MapReader::new(map, block, sectors)?;

    while let Some(sector) = reader.next() {
        read(sector, &mut bytes).map_err(RecordError::Read)?;
        reader.read(&bytes, sectors, crc32, |extent| {
            free.push(extent);
            Ok::<_, MapError>(())
        })?;
    }
    Ok(free.into_iter().collect())
}

/// Returns the place of the relocated first block.
fn first_block(header: &Header) -> Range<u64> {
    header.sector0..header.sector0.saturating_add(block_sectors(header))
}
