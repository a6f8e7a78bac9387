// SPDX-License-Identifier: GPL-2.0

//! Checking a log before it is restored: the whole restore, simulated.
//!
//! Nothing may be written to a device whose log does not hold together to the very end. So
//! [`Check`] walks the log as a restore would, from the newest log block to the oldest and in each
//! from the last entry to the first, and instead of copying it notes in [`Relocations`] where the
//! data would come from. It looks at:
//!
//! - each log block for itself ([`Header::parse`]), and whether it is the one that must follow: its
//!   block size and checkpoint are those of the newest, and its sequence is one less than that of
//!   the block before, so that no chain is circular and no log of an earlier checkpoint gets in;
//! - each entry: `source` and `dest` are on the device, whole blocks, and not the log block, they
//!   do not overlap, and the saved data has its checksum. Of the last block of a device, if its end
//!   cuts that off, only `source` may have a part, and the rest is padding;
//! - that each log block ends (that is, begins) with the one entry that may overwrite it: the
//!   backup of the log block before it, or in the oldest that of the device's first block.
//!
//! A log may come from anyone. No field of it is used before it is checked, the data read is
//! bounded by a budget of the caller's, and time and memory by another ([`Limits`]).
//!
//! There is no I/O here: the caller is told what to read, and brings it.
//!
//! # Resuming
//!
//! A log that an earlier restore has marked is checked in the same way. That restore has written
//! to places since its last mark, but never to one that it had read from since, and so each place
//! that the rest of the log reads either is as it was, or will be written again before.

use super::{
    block_size::BlockSize,
    check_error::{
        CheckError,
        EntryError, //
    },
    log::{
        entry_seed,
        Crc32,
        Entry,
        Header,
        BLOCK_SIZE_MAX,
        SECTOR_SHIFT,
        SECTOR_SIZE, //
    },
    relocations::{
        Piece,
        Relocations, //
    },
};
use kernel::prelude::*;

/// The largest read that [`Check`] asks for, in bytes.
pub const READ_MAX: usize = 1 << 20;

/// Pieces that every log may have, beyond [`Limits::pieces`].
const PIECES_FREE: u64 = 1 << 18;

/// Limits of what a log may ask of its reader: see [`Check::new`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes that entries may hold in all.
    ///
    /// Each time the file system writes to all of its free space a log may move each backup once,
    /// so there is no bound that follows from the device's size; but a log that holds many times
    /// the device is more likely made to keep its reader busy.
    pub bytes: u64,
    /// Pieces that the data of an entry may lie in, as the mean of all entries (and 2^18 for a
    /// start). Each costs time and memory.
    ///
    /// An entry's data lies in more than one piece if parts of it have been moved since, for which
    /// the log has entries as well. But a log of 40 entries that copy what others have copied can
    /// say that each block of a device is from somewhere else.
    pub pieces: u64,
}

impl Limits {
    /// None.
    pub const NONE: Self = Self {
        bytes: u64::MAX,
        pieces: u64::MAX,
    };
}

/// Totals of a whole log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Summary {
    /// Log blocks.
    pub blocks: u64,
    /// Entries, those of size 0 not counted.
    pub entries: u64,
    /// Bytes that the entries have saved, which a restore copies.
    pub bytes: u64,
}

/// Result of [`Check::next`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Read `len` bytes from `sector` on, and give them to [`Check::feed`].
    Read {
        /// First sector.
        sector: u64,
        /// Bytes, at most [`READ_MAX`], and a multiple of the block size.
        len: usize,
    },
    /// A log block is good.
    Block {
        /// Sector that it is at.
        sector: u64,
        /// Its header.
        header: Header,
    },
    /// An entry is good.
    Entry {
        /// Its index in the log block found last.
        index: u32,
        /// The entry.
        entry: Entry,
    },
    /// The whole log is good.
    Valid(Summary),
}

/// Next action of a [`Check`].
#[derive(Clone, Copy)]
enum State {
    /// Report the log block that has been read from a sector.
    Found { sector: u64 },
    /// Look at the entry before this index.
    Entries { before: u32 },
    /// Read data of an entry from an offset in sectors on; `crc` is the checksum up to there.
    Data {
        index: u32,
        entry: Entry,
        offset: u64,
        crc: u32,
    },
    /// Read the log block that is next in the chain.
    Next,
    /// All is checked.
    Valid,
}

/// A log being checked. See the [module](self).
pub struct Check {
    crc32: Crc32,
    /// Size of the device in sectors.
    device: u64,
    limits: Limits,
    /// True if saved data is to be verified.
    verify: bool,
    /// The log block that is being looked at.
    block: KVec<u8>,
    /// Its header.
    header: Header,
    relocations: Relocations,
    summary: Summary,
    /// Pieces that the data of all entries so far was in.
    pieces: u64,
    state: State,
}

impl Check {
    /// Begins to check the log of a device of `device` sectors. `first` are the device's first
    /// [`BLOCK_SIZE_MAX`] bytes, or all of it if it is smaller.
    ///
    /// With `verify` false saved data is not read and its checksums are believed: that is for
    /// listing a log, not for restoring it.
    ///
    /// # Errors
    ///
    /// If the first block is no log block, or one that cannot be of this device.
    pub fn new(
        first: &[u8],
        device: u64,
        limits: Limits,
        verify: bool,
        crc32: Crc32,
    ) -> Result<Self, CheckError> {
        let header =
            Header::parse(first, crc32).map_err(|error| CheckError::Block { sector: 0, error })?;
        let blocks = BlockSize::of(&header).number(device);

        if u64::from(header.sequence) >= blocks {
            return Err(CheckError::TooLong {
                sequence: header.sequence,
                blocks,
            });
        }

        let mut check = Self {
            crc32,
            device,
            limits,
            verify,
            block: KVec::new(),
            header,
            relocations: Relocations::new(),
            summary: Summary::default(),
            pieces: 0,
            state: State::Found { sector: 0 },
        };
        check.accept(header, 0, first)?;
        Ok(check)
    }

    /// Returns the log block found last.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Returns where the data is that a restore gives `sector`, and how many of `sectors` follow it
    /// without a gap: after [`Finding::Valid`] for the whole log, before that for what was found so far.
    pub fn restored(&self, sector: u64, sectors: u64) -> Piece {
        self.relocations.find(sector, sectors)
    }

    /// Takes a run of sectors that a restore gives other data than they have, lowest first. When all
    /// have been taken, returns [`None`]. To be called after [`Finding::Valid`], and after the last
    /// [`restored`](Self::restored).
    pub fn take_source(&mut self) -> Option<core::ops::Range<u64>> {
        self.relocations.take_first()
    }

    /// Goes on to the next finding. After [`Finding::Read`] call [`Self::feed`] first; after
    /// [`Finding::Valid`] nothing else comes.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the log. The check is then over.
    #[allow(clippy::should_implement_trait, reason = "an iterator cannot be fed")]
    pub fn next(&mut self) -> Result<Finding, CheckError> {
        loop {
            match self.state {
                State::Found { sector } => {
                    self.summary.blocks = self.summary.blocks.saturating_add(1);
                    self.state = State::Entries {
                        before: self.header.count,
                    };
                    return Ok(Finding::Block {
                        sector,
                        header: self.header,
                    });
                }
                State::Entries { before } => {
                    let Some(index) = before.checked_sub(1) else {
                        self.state = match self.header.sequence {
                            0 => State::Valid,
                            _ => State::Next,
                        };
                        continue;
                    };
                    let entry = self.header.entry(&self.block, index).unwrap_or_default();

                    self.check_entry(index, entry)
                        .map_err(|error| self.wrong(index, entry, error))?;
                    self.state = State::Data {
                        index,
                        entry,
                        offset: 0,
                        crc: entry_seed(entry.source, self.header.block_size),
                    };
                }
                State::Data {
                    index,
                    entry,
                    offset,
                    crc,
                } => {
                    let sectors = sectors(entry.size);

                    if self.verify && entry.checksum != 0 && sectors > 0 {
                        if let Some(left) = sectors.checked_sub(offset).filter(|left| *left > 0) {
                            return Ok(self.read(entry.dest.saturating_add(offset), left));
                        }
                        if crc != entry.checksum {
                            let error = EntryError::Checksum { computed: crc };

                            return Err(self.wrong(index, entry, error));
                        }
                    }
                    if sectors > 0 {
                        self.summary.entries = self.summary.entries.saturating_add(1);
                        self.relocate(entry, sectors)?
                            .map_err(|error| self.wrong(index, entry, error))?;
                    }
                    self.state = State::Entries { before: index };
                    return Ok(Finding::Entry { index, entry });
                }
                State::Next => return Ok(self.read(0, block_sectors(&self.header))),
                State::Valid => return Ok(Finding::Valid(self.summary)),
            }
        }
    }

    /// Takes the data that [`Finding::Read`] asked for.
    ///
    /// # Errors
    ///
    /// If it is a log block, and not the one that comes next. The check is then over.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), CheckError> {
        if data.len() < SECTOR_SIZE {
            return Err(CheckError::Unexpected);
        }
        match self.state {
            State::Data {
                index,
                entry,
                offset,
                crc,
            } => {
                self.state = State::Data {
                    index,
                    entry,
                    offset: offset.saturating_add((data.len() >> SECTOR_SHIFT) as u64),
                    crc: (self.crc32)(crc, data),
                };
                Ok(())
            }
            State::Next => {
                let sector = self.relocations.find(0, 1).data;
                let header = Header::parse(data, self.crc32)
                    .map_err(|error| CheckError::Block { sector, error })?;

                self.check_chain(&header, sector)?;
                self.accept(header, sector, data)
            }
            _ => Err(CheckError::Unexpected),
        }
    }

    /// Returns a request to read at most `sectors` from `sector` on, as the restore would see them.
    fn read(&self, sector: u64, sectors: u64) -> Finding {
        let piece = self.relocations.find(sector, sectors);

        Finding::Read {
            sector: piece.data,
            len: piece.sectors.min((READ_MAX >> SECTOR_SHIFT) as u64) as usize
                * (1 << SECTOR_SHIFT),
        }
    }

    /// Takes a log block that is in the right place.
    fn accept(&mut self, header: Header, sector: u64, data: &[u8]) -> Result<(), CheckError> {
        if header.count == 0 {
            return Err(CheckError::Empty { sector });
        }
        if !self.is_block(header.sector0, &header) {
            return Err(CheckError::Sector0 {
                sector,
                sector0: header.sector0,
            });
        }
        let data = data.get(..BLOCK_SIZE_MAX as usize).unwrap_or(data);

        self.block.clear();
        self.block
            .extend_from_slice(data, GFP_KERNEL)
            .map_err(Error::from)?;
        self.header = header;
        self.state = State::Found { sector };
        Ok(())
    }

    /// Checks that a log block is the one that comes next in the chain.
    fn check_chain(&self, header: &Header, sector: u64) -> Result<(), CheckError> {
        let expected = self.header.sequence.saturating_sub(1);

        if header.block_size != self.header.block_size {
            return Err(CheckError::BlockSize {
                sector,
                found: header.block_size,
                expected: self.header.block_size,
            });
        }
        if header.identity != self.header.identity {
            return Err(CheckError::Identity { sector });
        }
        if header.sequence != expected {
            return Err(CheckError::Sequence {
                sector,
                found: header.sequence,
                expected,
            });
        }
        Ok(())
    }

    /// Checks an entry for itself, and counts its bytes.
    fn check_entry(&mut self, index: u32, entry: Entry) -> Result<(), EntryError> {
        if entry.size > 0 {
            self.check_bounds(entry)?;
        }
        check_first(&self.header, index, entry)?;

        self.summary.bytes = self.summary.bytes.saturating_add(entry.size.into());
        if self.summary.bytes > self.limits.bytes {
            return Err(EntryError::Budget {
                limit: self.limits.bytes,
            });
        }
        Ok(())
    }

    /// Notes that the restore copies an entry. [`CheckError::NoMemory`] is not the entry's error.
    fn relocate(
        &mut self,
        entry: Entry,
        sectors: u64,
    ) -> Result<Result<(), EntryError>, CheckError> {
        let limit = self
            .limits
            .pieces
            .saturating_mul(self.summary.entries)
            .saturating_add(PIECES_FREE);
        let left = limit.saturating_sub(self.pieces);

        let copied = self
            .relocations
            .copy(entry.source, entry.dest, sectors, left)?;
        Ok(match copied {
            Some(pieces) => {
                self.pieces = self.pieces.saturating_add(pieces);
                Ok(())
            }
            None => Err(EntryError::Scattered { limit }),
        })
    }

    /// Checks where an entry of a size other than 0 lies.
    fn check_bounds(&self, entry: Entry) -> Result<(), EntryError> {
        let block = BlockSize::of(&self.header);
        let length = sectors(entry.size);
        let dest_end = entry.dest.checked_add(length);

        if block.down(length) != length
            || sectors(entry.size) << SECTOR_SHIFT != u64::from(entry.size)
            || block.down(entry.source) != entry.source
            || block.down(entry.dest) != entry.dest
        {
            return Err(EntryError::Unaligned);
        }
        let source_end = source_end(&self.header, self.device, entry)?;
        let dest_end = dest_end
            .filter(|end| *end <= self.device)
            .ok_or(EntryError::DestBeyondDevice)?;

        if entry.dest == 0 {
            return Err(EntryError::DestIsLog);
        }
        if entry.source < dest_end && entry.dest < source_end {
            return Err(EntryError::Overlap);
        }
        Ok(())
    }

    /// Returns whether `sector` is the first of a block of the device other than the first block.
    fn is_block(&self, sector: u64, header: &Header) -> bool {
        let block = BlockSize::of(header);

        sector > 0
            && block.down(sector) == sector
            && sector <= self.device.saturating_sub(block.sectors())
    }

    fn wrong(&self, index: u32, entry: Entry, error: EntryError) -> CheckError {
        CheckError::Entry {
            sequence: self.header.sequence,
            index,
            entry,
            error,
        }
    }
}

/// Checks that entry 0 of a log block, and no other, is the backup of what stood in its place.
pub fn check_first(header: &Header, index: u32, entry: Entry) -> Result<(), EntryError> {
    let covers_log = entry.source == 0 && entry.size > 0;

    match (index, covers_log) {
        (0, false) => Err(EntryError::NotFirstBlock),
        // A log block is one block, but the backup of the first block may go on behind it.
        (0, true) if header.sequence > 0 && entry.size != header.block_size => {
            Err(EntryError::NotFirstBlock)
        }
        (0, true) | (_, false) => Ok(()),
        (_, true) => Err(EntryError::SourceIsLog),
    }
}

/// Returns one past the last sector of an entry's source.
///
/// It is on the device, of `device` sectors, but for this: if the end of the device cuts off the last
/// block, the sectors that this has less are padding.
pub fn source_end(header: &Header, device: u64, entry: Entry) -> Result<u64, EntryError> {
    let most = BlockSize::of(header).up(device);

    entry
        .source
        .checked_add(sectors(entry.size))
        .filter(|end| *end <= most)
        .ok_or(EntryError::SourceBeyondDevice)
}

/// Converts bytes to sectors.
pub fn sectors(bytes: u32) -> u64 {
    u64::from(bytes >> SECTOR_SHIFT)
}

/// Returns the sectors of a block.
pub fn block_sectors(header: &Header) -> u64 {
    BlockSize::of(header).sectors()
}
