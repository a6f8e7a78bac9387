// SPDX-License-Identifier: GPL-2.0

//! Reasons why a log cannot be used.

use super::log::{
    Entry,
    LogError, //
};
use kernel::{
    error::Error,
    fmt, //
};

/// Error of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryError {
    /// `source`, `dest` or `size` is no multiple of the block size.
    Unaligned,
    /// `source` to its end is not on the device, whose last block counts as whole.
    SourceBeyondDevice,
    /// `dest` to its end is not on the device.
    DestBeyondDevice,
    /// `source` and `dest` overlap.
    Overlap,
    /// `source` is the first block, which holds the log, but this is not entry 0.
    SourceIsLog,
    /// `dest` is the first block, which holds the log.
    DestIsLog,
    /// Entry 0 is not the backup of the first block.
    NotFirstBlock,
    /// The saved data is not what was saved.
    Checksum {
        /// Checksum of the saved data.
        computed: u32,
    },
    /// With this entry the log holds more data than the caller is ready to read.
    Budget {
        /// The caller's limit in bytes.
        limit: u64,
    },
    /// With this entry the data of the log is in more pieces than the caller is ready to follow.
    Scattered {
        /// The limit for all entries up to here.
        limit: u64,
    },
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Unaligned => f.write_str("not whole blocks"),
            Self::SourceBeyondDevice => f.write_str("source is beyond the end of the device"),
            Self::DestBeyondDevice => f.write_str("dest is beyond the end of the device"),
            Self::Overlap => f.write_str("source and dest overlap"),
            Self::SourceIsLog => f.write_str("source is the log block, and this is not entry 0"),
            Self::DestIsLog => f.write_str("dest is the log block"),
            Self::NotFirstBlock => f.write_str("entry 0 is not the backup of the first block"),
            Self::Checksum { computed } => {
                write!(f, "the saved data has checksum {computed:#010x}")
            }
            Self::Budget { limit } => {
                write!(f, "the entries up to here hold more than {limit} bytes")
            }
            Self::Scattered { limit } => {
                write!(f, "the entries up to here are in more than {limit} pieces")
            }
        }
    }
}

/// Reason why a log cannot be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CheckError {
    /// A log block is none.
    Block {
        /// Sector that it was read from.
        sector: u64,
        /// Error of the log block.
        error: LogError,
    },
    /// A log block has another block size than the newest.
    BlockSize {
        /// Sector that it was read from.
        sector: u64,
        /// Its block size in bytes.
        found: u32,
        /// That of the newest.
        expected: u32,
    },
    /// A log block is not the one that comes next.
    Sequence {
        /// Sector that it was read from.
        sector: u64,
        /// Its sequence.
        found: u32,
        /// The sequence of the one that comes next.
        expected: u32,
    },
    /// A log block belongs to another checkpoint than the newest.
    Identity {
        /// Sector that it was read from.
        sector: u64,
    },
    /// A log block has no entries, and so does not say what stood in its place.
    Empty {
        /// Sector that it was read from.
        sector: u64,
    },
    /// A log block's `sector0` is not a block of the device other than the first.
    Sector0 {
        /// Sector that the log block was read from.
        sector: u64,
        /// Its `sector0`.
        sector0: u64,
    },
    /// The newest log block's sequence is higher than the device has room for log blocks.
    TooLong {
        /// Its sequence.
        sequence: u32,
        /// Blocks of the device.
        blocks: u64,
    },
    /// An entry is wrong.
    Entry {
        /// Sequence of its log block.
        sequence: u32,
        /// Its index in the log block.
        index: u32,
        /// The entry.
        entry: Entry,
        /// Error of the entry.
        error: EntryError,
    },
    /// The caller brought other data than was asked for.
    Unexpected,
    /// There is not enough memory for the simulation.
    NoMemory,
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Block { sector, error } => {
                write!(f, "log block at sector {sector}: ")?;
                fmt::Display::fmt(&error, f)
            }
            Self::BlockSize {
                sector,
                found,
                expected,
            } => write!(
                f,
                "log block at sector {sector}: block_size is {found}, the newest log block's is {expected}"
            ),
            Self::Sequence {
                sector,
                found,
                expected,
            } => write!(
                f,
                "log block at sector {sector}: sequence is {found}, expected is {expected}"
            ),
            Self::Identity { sector } => write!(
                f,
                "log block at sector {sector}: it belongs to another checkpoint"
            ),
            Self::Empty { sector } => write!(f, "log block at sector {sector}: it has no entries"),
            Self::Sector0 { sector, sector0 } => write!(
                f,
                "log block at sector {sector}: sector0 is {sector0}, not a block of the device after the first"
            ),
            Self::TooLong { sequence, blocks } => write!(
                f,
                "log block at sector 0: sequence is {sequence}, but the device has {blocks} blocks"
            ),
            Self::Entry {
                sequence,
                index,
                entry,
                error,
            } => {
                let Entry {
                    source,
                    dest,
                    size,
                    checksum,
                } = entry;

                write!(
                    f,
                    "log block {sequence}, entry {index} (source sector {source}, dest sector {dest}, {size} bytes, checksum {checksum:#010x}): "
                )?;
                fmt::Display::fmt(&error, f)
            }
            Self::Unexpected => f.write_str("data that was not asked for"),
            Self::NoMemory => f.write_str("not enough memory to check the log"),
        }
    }
}

impl From<Error> for CheckError {
    /// Converts the error of an allocation: nothing else fails in a simulation.
    fn from(_: Error) -> Self {
        Self::NoMemory
    }
}
