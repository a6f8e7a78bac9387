// SPDX-License-Identifier: GPL-2.0

//! Logs that somebody made up, and what must hold of a device whatever bytes are on it.

use bow_decisions::log::Entry;
use bowctl::device::BlockDevice;
use bowctl::progress::Progress;
use bowctl::recovery::{self, CheckOptions, RecoveryError, BUDGET_FACTOR};

use crate::crash::{self, Arrived};
use crate::disk::{Disk, Request, SECTOR};
use crate::log::{self, crc, Version, ENTRY};
use crate::restore::restore;
use bow_random::Random;

/// Bytes of the largest block.
const BLOCK_MAX: usize = 4096;

/// A log block to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Version of the header.
    pub version: Version,
    /// Marked by a restore.
    pub restoring: bool,
    /// Bytes.
    pub block_size: u32,
    /// 0 for the oldest.
    pub sequence: u32,
    /// Sector.
    pub sector0: u64,
    /// Every byte of it.
    pub uuid: u8,
    /// Oldest first.
    pub entries: Vec<Entry>,
}

impl Log {
    /// Returns the size of the header in bytes.
    pub fn header_size(&self) -> usize {
        self.version.header_size()
    }

    /// Returns the log block up to the end of its last entry, with the right checksum.
    pub fn bytes(&self) -> Vec<u8> {
        let header = log::Header {
            version: self.version,
            block_size: self.block_size,
            sequence: self.sequence,
            sector0: self.sector0,
            uuid: &[self.uuid; 16],
            time: 0,
            map: (0, 0, 0),
        };
        let entries: Vec<_> = self
            .entries
            .iter()
            .map(|entry| log::entry(entry.source, entry.dest, entry.size, entry.checksum))
            .collect();
        let mut bytes = header.log_block(&entries);

        if self.restoring {
            bytes[..4].copy_from_slice(b"WOB\0");
        }
        seal(&mut bytes);
        bytes
    }
}

/// Returns a log of version 1.0, for a device of 2^32 sectors, with entries that copy what others
/// have copied: with each, twice as many blocks come from two places by turns. `place` is where the
/// relocated first block is, in blocks of 4096 bytes.
pub fn scattered(place: u64) -> Log {
    const BLOCK: u64 = 4096;
    // The largest that an entry can say.
    const MOST: u64 = (1 << 20) - 1;
    let entry = |source: u64, dest: u64, blocks: u64| Entry {
        source: source * BLOCK / SECTOR as u64,
        dest: dest * BLOCK / SECTOR as u64,
        size: (blocks * BLOCK) as u32,
        checksum: 0,
    };
    // As a restore does them, which begins with the last.
    let mut entries = vec![entry(10, 4, 1), entry(11, 6, 1)];
    let mut blocks = 2;

    while entries.len() < 160 {
        let size = blocks.min(MOST);

        entries.push(entry(10 + blocks, 10, size));
        blocks += size;
    }
    entries.push(entry(0, 2, 1));
    entries.reverse();
    Log {
        version: Version::V1_0,
        restoring: false,
        block_size: BLOCK as u32,
        sequence: 0,
        sector0: place * BLOCK / SECTOR as u64,
        uuid: 0,
        entries,
    }
}

/// Gives a log block that has a checksum of its own the right one, as far as its header lets one
/// tell what it covers.
pub fn seal(block: &mut [u8]) {
    if block.len() < 80 || block[4] == 0 {
        return;
    }
    let end = header_size(block) + field(block, 12) as usize * ENTRY;

    if let Some(covered) = block.get(..end).filter(|covered| covered.len() >= 32) {
        let sum = crc(crc(crc(!0, &covered[..28]), &[0; 4]), &covered[32..]);

        block[28..32].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Returns a field of 32 bits.
fn field(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

/// Returns a field of 64 bits.
fn wide(block: &[u8], at: usize) -> u64 {
    u64::from(field(block, at)) | (u64::from(field(block, at + 4)) << 32)
}

fn header_size(block: &[u8]) -> usize {
    usize::from(block[6]) | (usize::from(block[7]) << 8)
}

/// Does what a good log says, step by step as the description of the format has it: the device
/// after a restore.
///
/// # Panics
///
/// If the log is not good.
pub fn follow(image: &[u8]) -> Vec<u8> {
    let mut data = image.to_vec();

    loop {
        let block = data[..BLOCK_MAX.min(data.len())].to_vec();
        let block_size = field(&block, 8) as usize;
        let sequence = field(&block, 16);
        let entries = entries(&block);
        let place = wide(&block, 20) as usize * SECTOR;

        assert!(place > 0 && place % block_size == 0 && place + block_size <= data.len());
        assert!(!entries.is_empty());
        for (index, entry) in entries.iter().enumerate().rev() {
            let size = entry.size as usize;

            assert!(index > 0 || size > 0);
            if size > 0 {
                assert_good(&data, index, sequence, block_size, entry);
                let (source, dest) = (entry.source as usize * SECTOR, entry.dest as usize * SECTOR);
                // The last block may be cut off.
                let there = size.min(data.len() - source);
                data.copy_within(dest..dest + there, source);
            }
        }
        if sequence == 0 {
            return data;
        }
        assert_eq!(data[8..12], block[8..12], "another block size");
        assert_eq!(field(&data, 16), sequence - 1, "the chain goes on");
        assert_eq!(data[4] > 0, block[4] > 0, "another version");
        assert!(block[4] == 0 || data[32..56] == block[32..56], "stale");
    }
}

/// Returns the entries of a log block, which must lie where its version has them.
fn entries(block: &[u8]) -> Vec<Entry> {
    let first = header_size(block);
    let end = first + field(block, 12) as usize * ENTRY;

    assert!(end <= field(block, 8) as usize && (block[4] == 0 || end <= SECTOR));
    block[first..end]
        .chunks(ENTRY)
        .map(|bytes| Entry {
            source: wide(bytes, 0),
            dest: wide(bytes, 8),
            size: field(bytes, 16),
            checksum: field(bytes, 20),
        })
        .collect()
}

/// Panics unless an entry that says something is good, on a device that holds `data` by then.
fn assert_good(data: &[u8], index: usize, sequence: u32, block_size: usize, entry: &Entry) {
    let size = entry.size as usize;
    let device = data.len() / SECTOR;
    let sectors = size / SECTOR;
    let block = (block_size / SECTOR) as u64;

    assert_eq!(size % block_size, 0);
    assert!(entry.source % block == 0 && entry.dest % block == 0);
    assert!(entry.source as usize <= device);
    assert!(entry.source as usize + sectors <= device.next_multiple_of(block as usize));
    assert!(entry.dest as usize <= device && entry.dest as usize + sectors <= device);
    assert!(
        entry.source.abs_diff(entry.dest) as usize >= sectors,
        "overlap"
    );
    assert!(entry.dest > 0, "dest is the log");
    assert_eq!(entry.source == 0, index == 0, "entry 0 and no other");
    assert!(index > 0 || sequence == 0 || size == block_size);

    let start = entry.dest as usize * SECTOR;
    let sum = crc((entry.source / block) as u32, &data[start..start + size]);
    assert!(
        entry.checksum == 0 || entry.checksum == sum,
        "wrong checksum"
    );
}

/// Checks the log of a device, which may read no more than the device has, but for the budget of
/// the entries, and write nothing.
///
/// # Errors
///
/// What is wrong with the log.
pub fn check(disk: &Disk) -> Result<(), RecoveryError> {
    let before = disk.bytes_read.get();
    let result = recovery::check(
        disk,
        CheckOptions::default(),
        &mut Progress::hidden(),
        |_| (),
    );
    let read = disk.bytes_read.get() - before;
    let device = disk.data.len() as u64;

    assert!(disk.requests.is_empty(), "a check writes nothing");
    // The first block, each log block once, the entries, and each block of a free map once.
    assert!(
        read <= 4096 + 2 * device + BUDGET_FACTOR * device,
        "{read} bytes were read of a device of {device}"
    );
    result.map(|_| ())
}

/// Result of [`examine`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The log was good, and was restored.
    pub restored: bool,
    /// The new state was kept.
    pub kept: bool,
}

/// Panics unless a device that holds `image`, whatever that is, is treated as it must be:
///
/// - what is refused is refused with nothing written;
/// - what is accepted is restored to what the log says, and to the same after power cuts;
/// - the same for keeping the new state; and what can be restored can be kept.
pub fn examine(image: &[u8], seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let restored = restores(image, &mut random);
    let kept = keeps(image, &mut random);
    let restoring = image.starts_with(b"WOB");

    assert!(kept || restoring || !restored, "good, but cannot be kept");
    assert!(!(kept && restoring), "neither state, but was kept");
    Outcome { restored, kept }
}

/// Number of power cuts that a restore, or a commit, is put to.
const CUTS: usize = 6;

fn restores(image: &[u8], random: &mut Random) -> bool {
    let mut disk = Disk::new(image.to_vec());

    if let Err(error) = check(&disk) {
        refused(&error);
        return false;
    }
    restore(&mut disk).unwrap();
    assert_eq!(disk.requests.last(), Some(&Request::Flush));
    assert!(agree(image, &disk.data, &follow(image)), "restored wrongly");
    cut(image, &disk, random, |again| {
        check(again).map(|()| restore(again).unwrap())
    });
    true
}

fn keeps(image: &[u8], random: &mut Random) -> bool {
    let mut disk = Disk::new(image.to_vec());
    let can = recovery::can_commit(&disk);

    assert!(disk.requests.is_empty());
    if let Err(error) = recovery::commit(&mut disk) {
        assert!(disk.requests.is_empty(), "refused, but written to");
        assert!(can.is_err());
        refused(&error);
        return false;
    }
    assert!(can.is_ok());
    assert_eq!(disk.requests.last(), Some(&Request::Flush));

    let mut wanted = image.to_vec();
    let place = relocated(image) as usize * SECTOR;
    wanted.copy_within(place..place + field(image, 8) as usize, 0);
    assert!(disk.data == wanted, "kept wrongly");
    cut(image, &disk, random, recovery::commit);
    true
}

/// Returns where the relocated first block is: in version 1.0 the last entry may have moved it, of which `sector0` does
/// not tell yet.
fn relocated(image: &[u8]) -> u64 {
    let place = wide(image, 20);
    let size = field(image, 8);
    let count = field(image, 12);

    if image[4] > 0 || count == 0 {
        return place;
    }
    let last = header_size(image) + (count as usize - 1) * 24;
    let moves = wide(image, last) == place
        && field(image, last + 16) == size
        && field(image, last + 20) == 0;

    if moves {
        wide(image, last + 8)
    } else {
        place
    }
}

/// Returns whether two restores of `image` have come to the same end. If it has a free map, either may have
/// zeroed sectors of free space that the other has not.
fn agree(image: &[u8], one: &[u8], other: &[u8]) -> bool {
    let has_map = image[4] > 1 && wide(image, 56) > 0;

    one.len() == other.len()
        && one
            .chunks(SECTOR)
            .zip(other.chunks(SECTOR))
            .all(|(one, other)| {
                one == other || has_map && (one == [0; SECTOR] || other == [0; SECTOR])
            })
}

/// Cuts the power while what has been done to `done` is done to `image`, does it `again`, and
/// compares.
fn cut(
    image: &[u8],
    done: &Disk,
    random: &mut Random,
    mut again: impl FnMut(&mut Disk) -> Result<(), RecoveryError>,
) {
    // A first block that is itself a log is taken for one when all is done.
    if matches!(done.data.get(..4), Some(b"BOW\0" | b"WOB\0")) {
        return;
    }
    for _ in 0..CUTS {
        let cut = random.index(done.requests.len()) + 1;
        let arrived = match random.index(4) {
            0 => Arrived::Nothing,
            1 => Arrived::Writes,
            _ => Arrived::Sectors,
        };
        let data = crash::after(image, &done.requests[..cut], arrived, random);
        let mut disk = Disk::new(data);

        match again(&mut disk) {
            Ok(()) | Err(RecoveryError::NoLog) => {}
            Err(error) => panic!("{error} after {cut} requests"),
        }
        assert!(
            agree(image, &disk.data, &done.data),
            "another end after {cut} requests, {arrived:?}"
        );
    }
}

/// Panics unless this is how a log that is not good is refused: with a reason.
fn refused(error: &RecoveryError) {
    match error {
        RecoveryError::NoLog | RecoveryError::Restoring => {}
        RecoveryError::Invalid(invalid) => assert!(!invalid.to_string().is_empty()),
        error => panic!("{error}"),
    }
}

/// A device of any size that holds zeroes but for its first sectors.
#[derive(Debug)]
pub struct Sparse {
    /// Contents of its beginning, whole sectors.
    pub first: Vec<u8>,
    /// Size in sectors.
    pub sectors: u64,
}

impl BlockDevice for Sparse {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read_at(&self, sector: u64, data: &mut [u8]) -> std::io::Result<()> {
        data.fill(0);
        if let Some(from) = self.first.get(sector as usize * SECTOR..) {
            let len = from.len().min(data.len());

            data[..len].copy_from_slice(&from[..len]);
        }
        Ok(())
    }

    fn write_at(&mut self, _: u64, _: &[u8]) -> std::io::Result<()> {
        panic!("written to");
    }

    fn zero(&mut self, _: u64, _: u64) -> std::io::Result<()> {
        panic!("zeroed");
    }

    fn flush(&mut self) -> std::io::Result<()> {
        panic!("flushed");
    }
}
