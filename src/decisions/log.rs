// SPDX-License-Identifier: GPL-2.0

//! The on-disk log: layout and meaning of every field of a log block.
//!
//! This file is the one definition of the format: the layout, and the reading of log blocks ([`Header`]),
//! which `bowctl` and the tests do. The writing half is [`log_block`](super::log_block), over the same
//! layout: the target fills and encodes log blocks with it.
//!
//! While a checkpoint is open, the device's first block holds a *log block*: a header followed by entries.
//! Each entry says that the data that belongs at `source` is saved at `dest`. The contents of the first block
//! are elsewhere, in the *relocated first block* at `sector0`. A log block that is full is saved to a free
//! block, and its successor, whose `sequence` is higher by one, names that block in its entry 0 (source 0,
//! dest where the full log block was saved). So there is a chain from the newest log block to the oldest. A
//! restore follows the chain in that order, and takes the entries of each log block from the last to the
//! first.
//!
//! # Layout
//!
//! All fields are little-endian and packed. A sector is 512 bytes.
//!
//! | offset | type | field | since | meaning |
//! |-------:|------|-------|-------|---------|
//! |  0 | u32    | magic          | 1.0 | `BOW\0`; `WOB\0` while a restore is under way |
//! |  4 | u16    | header_version | 1.0 | major version in the high byte, minor in the low |
//! |  6 | u16    | header_size    | 1.0 | bytes; the entries start here, so a longer header is skipped by older readers |
//! |  8 | u32    | block_size     | 1.0 | bytes, a power of two from 512 to 4096: size of a log block, unit of backup, unit that a checksum's seed counts in |
//! | 12 | u32    | count          | 1.0 | entries in this block |
//! | 16 | u32    | sequence       | 1.0 | 0 for the oldest log block |
//! | 20 | u64    | sector0        | 1.0 | first sector of the relocated first block |
//! | 28 | u32    | checksum       | 1.1 | of the bytes from 0 to the end of the last entry, with this field taken as 0 |
//! | 32 | `u8[16]` | uuid           | 1.1 | identity of the checkpoint, random, the same in every log block of it |
//! | 48 | u64    | time           | 1.1 | seconds since the epoch at which the checkpoint was taken |
//! | 56 | u64    | free_map_sector | 1.2 | sector of the first block of the [free map](super::free_map), 0 if there is none |
//! | 64 | u32    | free_map_blocks | 1.2 | number of blocks of the free map |
//! | 68 | u32    | free_map_checksum | 1.2 | checksum of its first block, seeded like that of an entry whose source is `free_map_sector` |
//! | 72 | u8     | boot_action    | 1.2 | what is to be done at the next boot: 0 nothing, 1 try, 2 restore |
//! | 73 | u8     | boot_tries_left | 1.2 | number of boots that may still be tried |
//! | 74 | u8     | boot_tries     | 1.2 | number of boots that may be tried in all |
//! | 75 | `u8[5]` | reserved       | 1.1 | 0 |
//! | header_size | entry × count | entries | 1.0 | |
//!
//! An entry is 24 bytes:
//!
//! | offset | type | field | meaning |
//! |-------:|------|-------|---------|
//! |  0 | u64 | source   | sector that the saved data belongs at |
//! |  8 | u64 | dest     | sector that the saved data is at |
//! | 16 | u32 | size     | bytes, a multiple of `block_size`; 0 in a grant |
//! | 20 | u32 | checksum | of the saved data, seeded with [`entry_seed`]; 0 if not recorded |
//!
//! An entry of size 0 saves nothing. If its source is less than its dest, the entry is a *grant* (since 1.2):
//! the file system may have written to the blocks from source to dest that the free map has. Otherwise the
//! entry says nothing.
//!
//! The end of the device may cut off the last block. An entry whose source has this block counts the block as
//! whole: the source ends beyond the device, and the saved data has zeroes there. The block is never part of
//! a dest.
//!
//! Every checksum is the raw CRC-32: reflected, polynomial 0xEDB88320, no inversion before or after
//! ([`Crc32`]). The checksum of a header is seeded with [`HEADER_SEED`], so that a header of zeroes does not
//! pass.
//!
//! # Rationale
//!
//! **Version 1.0** is Android's format, which the C driver writes. Its entries fill the whole block, and
//! nothing tells a whole log block from one that a power cut has torn, part new and part old.
//!
//! **Version 1.1 cannot be torn.** Its entries lie in the first sector of the block, whatever the size of the
//! block ([`ENTRIES_MAX`] entries), and a device writes a sector wholly or not at all. The remainder of the
//! block has no meaning. So after a power cut the device's first sector is always either one log block that
//! was written or the next one, and no record of an older, safe count is needed. The price is a chain that
//! grows faster: one block for 17 entries.
//!
//! **The checksum** then does not guard against tearing but against damage: by the medium, or by someone who
//! wrote to the underlying device.
//!
//! **The uuid** keeps a chain together. A log block is saved in space that the file system considers free.
//! Such space may still hold a log block of an earlier checkpoint. That one must never be taken for a member
//! of the chain, even if its sequence fits.
//!
//! **Android's reader** skips to `header_size` and does not look at `header_version`, so it restores a log of
//! version 1.1 as well; not one of 1.2 with grants, which it takes for damage.
//!
//! **Version 1.2** adds the record of free space: the free map, which says what was free at the checkpoint, and
//! the grants, which say what of that was handed to the file system since. A reader of 1.1 skips both, and
//! restores all the same; what the file system wrote to free space is still there then.
//!
//! **Later versions** may lengthen the header, raise the minor version and keep what is here: a reader built
//! from this file then still restores. A change for which such a reader must not restore raises the major
//! version.

use core::ops::Range as Span;
use kernel::fmt;

/// Size of a sector in bytes: the unit of every disk address, and of what a device writes atomically.
pub const SECTOR_SIZE: usize = 512;

/// Binary logarithm of [`SECTOR_SIZE`].
pub const SECTOR_SHIFT: u32 = 9;

/// Magic of a log block: `BOW\0`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BOW\0");

/// Magic of a log block that a restore has marked: `WOB\0`. The device is then neither in the old state nor
/// in the new one, until the restore is finished.
pub const MAGIC_RESTORING: u32 = u32::from_le_bytes(*b"WOB\0");

/// Version of Android's format, which the C driver writes.
pub const VERSION_1_0: u16 = 0x0100;

/// Version with a checksum of the log block, and all of its entries in the first sector.
pub const VERSION_1_1: u16 = 0x0101;

/// Version with a record of free space, which this project writes.
pub const VERSION_1_2: u16 = 0x0102;

/// Size of a version 1.0 header in bytes.
pub const HEADER_SIZE_1_0: usize = 28;

/// Size of a header of version 1.1 or 1.2 in bytes.
pub const HEADER_SIZE: usize = 80;

/// Size of an entry in bytes.
pub const ENTRY_SIZE: usize = 24;

/// Number of entries that a log block of version 1.1 or 1.2 has room for: as many as fit in its first sector.
pub const ENTRIES_MAX: usize = (SECTOR_SIZE - HEADER_SIZE) / ENTRY_SIZE;

/// Smallest `block_size` in bytes.
pub const BLOCK_SIZE_MIN: u32 = 512;

/// Largest `block_size` in bytes.
pub const BLOCK_SIZE_MAX: u32 = 4096;

/// Seed of the checksum of a header.
pub const HEADER_SEED: u32 = !0;

/// First sector of a log block: all of a log block of version 1.1 that has a meaning.
pub type Sector = [u8; SECTOR_SIZE];

/// Function that computes the raw CRC-32 of `data` from a seed: reflected, polynomial 0xEDB88320, no
/// inversion before or after. The kernel's `crc32_le` is one. The users of this file supply the
/// implementation.
pub type Crc32 = fn(seed: u32, data: &[u8]) -> u32;

/// Byte offsets of the header's fields.
pub(super) mod at {
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 4;
    pub(crate) const HEADER_SIZE: usize = 6;
    pub(crate) const BLOCK_SIZE: usize = 8;
    pub(crate) const COUNT: usize = 12;
    pub(crate) const SEQUENCE: usize = 16;
    pub(crate) const SECTOR0: usize = 20;
    pub(crate) const CHECKSUM: usize = 28;
    pub(crate) const UUID: usize = 32;
    pub(crate) const TIME: usize = 48;
    pub(crate) const FREE_MAP_SECTOR: usize = 56;
    pub(crate) const FREE_MAP_BLOCKS: usize = 64;
    pub(crate) const FREE_MAP_CHECKSUM: usize = 68;
    pub(crate) const BOOT: usize = 72;
}

/// One saved range: the data that belongs at `source` is at `dest`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// Sector that the saved data belongs at.
    pub source: u64,
    /// Sector that the saved data is at.
    pub dest: u64,
    /// Size in bytes, a multiple of the block size even where the device has less of the source's last block.
    /// 0: the entry saves nothing.
    pub size: u32,
    /// Checksum of the saved data, seeded with [`entry_seed`]. 0: not recorded.
    pub checksum: u32,
}

/// Identity of the checkpoint that a log block belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Random bytes, the same in every log block of one checkpoint.
    pub uuid: [u8; 16],
    /// Time at which the checkpoint was taken, in seconds since 1970.
    pub time: u64,
}

/// Place of a [free map](super::free_map), or of the remainder of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FreeMap {
    /// First sector of its first block; never 0.
    pub sector: u64,
    /// Number of its blocks.
    pub blocks: u32,
    /// Checksum of its first block, seeded like that of an entry whose source is `sector`.
    pub checksum: u32,
}

/// Action to be taken at the next boot, before a file system is mounted. The kernel module keeps the fields
/// and does not act on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Boot {
    /// 0: nothing; 1: try the new contents; 2: restore. Readers take other values for 0.
    pub action: u8,
    /// Number of boots that may still be tried.
    pub tries_left: u8,
    /// Number of boots that may be tried in all.
    pub tries: u8,
}

impl Boot {
    /// [`action`](Self::action): the new contents are to be tried.
    pub const TRY: u8 = 1;

    /// [`action`](Self::action): the checkpoint is to be restored.
    pub const RESTORE: u8 = 2;

    /// Writes the fields to `block`, a log block.
    pub(super) fn encode(&self, block: &mut [u8]) {
        put(block, at::BOOT, [self.action, self.tries_left, self.tries]);
    }
}

/// Returns the seed of the checksum of an entry: the number of the source's block, cut to 32 bits.
///
/// `source` is in sectors, `block_size` in bytes.
pub fn entry_seed(source: u64, block_size: u32) -> u32 {
    let shift = block_size
        .checked_ilog2()
        .unwrap_or(SECTOR_SHIFT)
        .saturating_sub(SECTOR_SHIFT);

    // The format cuts the block number to 32 bits.
    (source >> shift) as u32
}

/// Returns whether the format allows a block size of `block_size` bytes.
pub fn block_size_valid(block_size: u32) -> bool {
    block_size.is_power_of_two() && (BLOCK_SIZE_MIN..=BLOCK_SIZE_MAX).contains(&block_size)
}

impl Entry {
    /// Creates a grant of the sectors of `span`.
    pub fn grant(span: &Span<u64>) -> Self {
        Self {
            source: span.start,
            dest: span.end,
            size: 0,
            checksum: 0,
        }
    }

    /// Returns the sectors that the entry grants, if the entry, of a log block of version 1.2 or later, is a
    /// grant.
    pub fn granted(&self) -> Option<Span<u64>> {
        (self.size == 0 && self.source < self.dest).then_some(self.source..self.dest)
    }

    /// Writes the entry to the first [`ENTRY_SIZE`] bytes of `out`.
    pub(super) fn encode(&self, out: &mut [u8]) {
        put(out, 0, self.source.to_le_bytes());
        put(out, 8, self.dest.to_le_bytes());
        put(out, 16, self.size.to_le_bytes());
        put(out, 20, self.checksum.to_le_bytes());
    }

    /// Reads an entry from the first [`ENTRY_SIZE`] bytes of `bytes`.
    fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            source: u64::from_le_bytes(get(bytes, 0)?),
            dest: u64::from_le_bytes(get(bytes, 8)?),
            size: u32::from_le_bytes(get(bytes, 16)?),
            checksum: u32::from_le_bytes(get(bytes, 20)?),
        })
    }
}

/// Reason why bytes are not a log block: the field at fault and its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogError {
    /// The magic is neither [`MAGIC`] nor [`MAGIC_RESTORING`]: this is no log block at all.
    Magic(u32),
    /// The major version is unknown to this reader.
    Version(u16),
    /// The version does not have this header size.
    HeaderSize(u16),
    /// The block size is not a power of two from 512 to 4096.
    BlockSize(u32),
    /// There are more entries than there is room for.
    Count {
        /// Count in the header.
        count: u32,
        /// Number of entries for which there is room.
        max: u32,
    },
    /// The log block's own checksum is wrong.
    Checksum {
        /// Checksum in the header.
        recorded: u32,
        /// Checksum of the bytes.
        computed: u32,
    },
    /// There are fewer bytes than the log block has.
    Short {
        /// Number of bytes there are.
        len: usize,
        /// Number of bytes needed.
        need: usize,
    },
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Magic(magic) => write!(f, "magic is {magic:#010x}, not that of a log"),
            Self::Version(version) => write!(
                f,
                "header_version is {}.{}, known is 1.x",
                version >> 8,
                version & 0xff
            ),
            Self::HeaderSize(size) => write!(f, "header_size {size} does not fit the version"),
            Self::BlockSize(size) => write!(
                f,
                "block_size is {size}, not a power of two from 512 to 4096"
            ),
            Self::Count { count, max } => write!(f, "count is {count}, room is for {max}"),
            Self::Checksum { recorded, computed } => write!(
                f,
                "checksum of the log block is {computed:#010x}, recorded is {recorded:#010x}"
            ),
            Self::Short { len, need } => write!(f, "{len} bytes of a log block of {need}"),
        }
    }
}

/// Header of a log block as read, of any version that can be restored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Set if the magic is [`MAGIC_RESTORING`].
    pub restoring: bool,
    /// Major version in the high byte, minor in the low.
    pub version: u16,
    /// Offset of the entries in bytes.
    pub header_size: u16,
    /// Size of a block in bytes: a power of two from 512 to 4096.
    pub block_size: u32,
    /// Number of entries. All of them lie in the block, and from version 1.1 on in its first sector.
    pub count: u32,
    /// Number of log blocks of the checkpoint that came before.
    pub sequence: u32,
    /// First sector of the relocated first block.
    pub sector0: u64,
    /// Identity of the checkpoint; [`None`] in version 1.0.
    pub identity: Option<Identity>,
    /// Place of the free map; [`None`] before version 1.2.
    pub free_map: Option<FreeMap>,
    /// Action to be taken at the next boot; none before version 1.2.
    pub boot: Boot,
}

impl Header {
    /// Reads and checks the header at the start of `block`.
    ///
    /// `block` is a log block. A device's first [`BLOCK_SIZE_MAX`] bytes will do, since bytes after the log
    /// block are not looked at. A device's first sector will do too, unless the log block turns out to be of
    /// version 1.0 with entries that reach further ([`LogError::Short`]).
    ///
    /// # Errors
    ///
    /// A [`LogError`] that names the field at fault.
    pub fn parse(block: &[u8], crc32: Crc32) -> Result<Self, LogError> {
        let short = |need| LogError::Short {
            len: block.len(),
            need,
        };
        let header = Self::decode(block).ok_or(short(HEADER_SIZE_1_0))??;
        let end = entries_end(header.header_size.into(), header.count);
        let bytes = block.get(..end).ok_or(short(end))?;

        if header.has_checksum() {
            let recorded = u32::from_le_bytes(get(block, at::CHECKSUM).ok_or(short(end))?);
            let computed = header_checksum(bytes, crc32);

            if recorded != computed {
                return Err(LogError::Checksum { recorded, computed });
            }
        }
        Ok(header)
    }

    /// Reads the fields and checks each by itself. Returns [`None`] if `block` is too short.
    fn decode(block: &[u8]) -> Option<Result<Self, LogError>> {
        let magic = u32::from_le_bytes(get(block, at::MAGIC)?);
        let version = u16::from_le_bytes(get(block, at::VERSION)?);
        let header_size = u16::from_le_bytes(get(block, at::HEADER_SIZE)?);
        let block_size = u32::from_le_bytes(get(block, at::BLOCK_SIZE)?);
        let count = u32::from_le_bytes(get(block, at::COUNT)?);
        let [major, minor] = version.to_be_bytes();

        if magic != MAGIC && magic != MAGIC_RESTORING {
            return Some(Err(LogError::Magic(magic)));
        }
        if major != 1 {
            return Some(Err(LogError::Version(version)));
        }
        if !block_size_valid(block_size) {
            return Some(Err(LogError::BlockSize(block_size)));
        }

        let (fits, area) = match minor {
            // A longer header is legal from version 1.0 on; readers skip what they do not know.
            0 => (
                (HEADER_SIZE_1_0 as u32..=block_size).contains(&header_size.into()),
                block_size,
            ),
            1 | 2 => (usize::from(header_size) == HEADER_SIZE, BLOCK_SIZE_MIN),
            _ => (
                (HEADER_SIZE..=SECTOR_SIZE).contains(&usize::from(header_size)),
                BLOCK_SIZE_MIN,
            ),
        };
        if !fits {
            return Some(Err(LogError::HeaderSize(header_size)));
        }

        let max = area.saturating_sub(header_size.into()) / ENTRY_SIZE as u32;
        if count > max {
            return Some(Err(LogError::Count { count, max }));
        }

        let mut header = Self {
            restoring: magic == MAGIC_RESTORING,
            version,
            header_size,
            block_size,
            count,
            sequence: u32::from_le_bytes(get(block, at::SEQUENCE)?),
            sector0: u64::from_le_bytes(get(block, at::SECTOR0)?),
            identity: None,
            free_map: None,
            boot: Boot::default(),
        };
        if header.has_checksum() {
            header.identity = Some(Identity {
                uuid: get(block, at::UUID)?,
                time: u64::from_le_bytes(get(block, at::TIME)?),
            });
        }
        if header.has_record() {
            let [action, tries_left, tries] = get(block, at::BOOT)?;

            header.boot = Boot {
                action,
                tries_left,
                tries,
            };
            header.free_map = Some(FreeMap {
                sector: u64::from_le_bytes(get(block, at::FREE_MAP_SECTOR)?),
                blocks: u32::from_le_bytes(get(block, at::FREE_MAP_BLOCKS)?),
                checksum: u32::from_le_bytes(get(block, at::FREE_MAP_CHECKSUM)?),
            })
            .filter(|map| map.sector != 0);
        }
        Some(Ok(header))
    }

    /// Returns whether a header of this version has a checksum and an identity, and keeps its entries in the
    /// first sector.
    pub fn has_checksum(&self) -> bool {
        self.version >= VERSION_1_1
    }

    /// Returns whether a header of this version has a record of free space, and grants among its entries.
    pub fn has_record(&self) -> bool {
        self.version >= VERSION_1_2
    }

    /// Returns the offset in bytes of the end of the last entry.
    pub fn end(&self) -> usize {
        entries_end(self.header_size.into(), self.count)
    }

    /// Returns entry `index` of `block`, the block that this header was read from; [`None`] if there are not
    /// so many entries.
    pub fn entry(&self, block: &[u8], index: u32) -> Option<Entry> {
        if index >= self.count {
            return None;
        }
        Entry::decode(block.get(entries_end(self.header_size.into(), index)..)?)
    }

    /// Returns the entries of `block`, the block that this header was read from, oldest first.
    pub fn entries<'a>(&self, block: &'a [u8]) -> impl DoubleEndedIterator<Item = Entry> + 'a {
        let header = *self;

        (0..header.count).filter_map(move |index| header.entry(block, index))
    }

    /// Marks `block`, the block that this header was read from, as being restored, with the first `count`
    /// entries still to do. Returns the header as it then reads. Changes only bytes of the first sector.
    pub fn mark(&self, block: &mut [u8], count: u32, crc32: Crc32) -> Self {
        let marked = Self {
            restoring: true,
            count: count.min(self.count),
            ..*self
        };

        put(block, at::MAGIC, MAGIC_RESTORING.to_le_bytes());
        put(block, at::COUNT, marked.count.to_le_bytes());
        marked.renew_checksum(block, crc32);
        marked
    }

    /// Records in `block`, the block that this header was read from, what is to be done at the next boot. Returns
    /// whether a log block of this version has the fields; one that has not is left alone. Changes only bytes of the
    /// first sector.
    pub fn set_boot(&self, block: &mut [u8], boot: Boot, crc32: Crc32) -> bool {
        if !self.has_record() {
            return false;
        }
        boot.encode(block);
        self.renew_checksum(block, crc32);
        true
    }

    /// Records in `block`, the block that this header was read from, that the relocated first block is at `sector0`.
    /// Changes only bytes of the first sector.
    pub fn set_sector0(&self, block: &mut [u8], sector0: u64, crc32: Crc32) {
        put(block, at::SECTOR0, sector0.to_le_bytes());
        self.renew_checksum(block, crc32);
    }

    /// Makes the checksum of `block` anew, which has this header, if there is one.
    fn renew_checksum(&self, block: &mut [u8], crc32: Crc32) {
        if self.has_checksum() {
            let checksum = header_checksum(block.get(..self.end()).unwrap_or_default(), crc32);

            put(block, at::CHECKSUM, checksum.to_le_bytes());
        }
    }
}

/// Summary of a device's first sector: see [`probe`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Set if a restore was begun and has not finished.
    pub restoring: bool,
    /// Number of log blocks before the newest, as far as the header can be believed.
    pub sequence: u32,
}

/// Returns a summary if `first`, a device's first sector or more, looks like a log.
///
/// For refusing a device that holds an uncommitted checkpoint, so a damaged log counts as well. Only a
/// restore checks further.
pub fn probe(first: &[u8]) -> Option<Probe> {
    let magic = u32::from_le_bytes(get(first, at::MAGIC)?);
    let header_size = u16::from_le_bytes(get(first, at::HEADER_SIZE)?);
    let block_size = u32::from_le_bytes(get(first, at::BLOCK_SIZE)?);
    let plausible = (magic == MAGIC || magic == MAGIC_RESTORING)
        && usize::from(header_size) >= HEADER_SIZE_1_0
        && block_size_valid(block_size);

    plausible.then_some(Probe {
        restoring: magic == MAGIC_RESTORING,
        sequence: u32::from_le_bytes(get(first, at::SEQUENCE)?),
    })
}

/// Returns the checksum of `bytes`, a log block up to the end of its last entry, with the checksum field
/// taken as 0.
pub(super) fn header_checksum(bytes: &[u8], crc32: Crc32) -> u32 {
    let field = at::CHECKSUM..at::UUID;
    let before = bytes.get(..field.start).unwrap_or_default();
    let after = bytes.get(field.end..).unwrap_or_default();

    crc32(crc32(crc32(HEADER_SEED, before), &[0; 4]), after)
}

/// Returns the offset in bytes of the end of `count` entries. Cannot overflow for counts that fit in a block;
/// for others, the result is beyond the bytes there are.
pub(super) fn entries_end(header_size: usize, count: u32) -> usize {
    (count as usize)
        .saturating_mul(ENTRY_SIZE)
        .saturating_add(header_size)
}

/// Returns the `N` bytes of `bytes` at `offset`, if they are all there.
fn get<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}

/// Writes a field to `out` at `offset`. The fields of all callers lie in the first sector, which the slices
/// of all callers have. A slice that has not is left alone.
pub(super) fn put<const N: usize>(out: &mut [u8], offset: usize, field: [u8; N]) {
    if let Some(slot) = out.get_mut(offset..offset.saturating_add(N)) {
        slot.copy_from_slice(&field);
    }
}
