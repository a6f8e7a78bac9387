// SPDX-License-Identifier: GPL-2.0

//! A bow device in user space, after the description of the format alone.
//!
//! It works in whole blocks and writes everything at once: what is tested with it is how a log is
//! read and restored, not how one is written under power cuts.

use std::collections::HashSet;
use std::ops::Range;

use crate::disk::SECTOR;
use crate::log::{self, crc, Header, Version};
use bow_random::Random;

/// State of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// As at the checkpoint, and needed for a rollback.
    Unchanged,
    /// Written since the checkpoint.
    Changed,
    /// Free.
    Free,
    /// Holds a backup, or a log block that was full.
    Backup,
    /// Holds the relocated first block.
    FirstBlock,
}

/// Operation of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes `blocks` blocks from `block` on (modulo the device's size).
    Write {
        /// First block.
        block: usize,
        /// Number of blocks.
        blocks: usize,
    },
    /// Discards a block, which is free again if it was written since the checkpoint and is a whole
    /// one.
    Discard {
        /// The block.
        block: usize,
    },
    /// Nothing; but the C driver writes an entry of size 0 now and then.
    EmptyEntry,
}

/// The device.
#[derive(Clone, Debug)]
pub struct History {
    /// Bytes.
    pub block_size: usize,
    version: Version,
    random: Random,
    /// Contents of the underlying disk.
    pub disk: Vec<u8>,
    /// Contents at the checkpoint.
    pub old: Vec<u8>,
    /// Contents that the file system sees.
    pub new: Vec<u8>,
    /// Blocks that were free at the checkpoint.
    pub free_at_checkpoint: Vec<bool>,
    kinds: Vec<Kind>,
    first_block: usize,
    sequence: u32,
    entries: Vec<[u8; 24]>,
    uuid: Vec<u8>,
    time: u64,
    /// Entries in all, those of size 0 not counted.
    pub total_entries: u64,
    /// Moves of backups and of the relocated first block.
    pub moves: usize,
    /// The fields of the free map: sector, blocks, checksum; zeroes if there is none.
    pub map: (u64, u32, u32),
    /// Blocks that are or were [`Kind::Changed`]: a log does not tell what was discarded since.
    touched: Vec<bool>,
    /// Grants.
    pub grants: usize,
    /// First eight bytes of each sector that the file system wrote: they tell what must be undone.
    written: HashSet<u64>,
}

/// State of a block as a log of version 1.2 tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// As at the checkpoint, and needed for a rollback.
    Unchanged,
    /// May have been written since the checkpoint.
    Writable,
    /// Free, and never written since the checkpoint.
    Free,
    /// Holds a backup, a full log block, or a block of the free map.
    Backup,
    /// Holds the relocated first block.
    FirstBlock,
}

impl History {
    /// Begins the history of a device with random contents that enters state 1; `None` if there is
    /// not enough free space. `free` says which blocks are free; block 0 never is.
    pub fn new(version: Version, block_size: usize, free: &[bool], seed: u64) -> Option<Self> {
        Self::with_tail(version, block_size, free, 0, seed)
    }

    /// Begins a history as [`Self::new`] does, on a device that ends `tail` sectors into one more
    /// block, which is not free.
    pub fn with_tail(
        version: Version,
        block_size: usize,
        free: &[bool],
        tail: usize,
        seed: u64,
    ) -> Option<Self> {
        let mut random = Random::new(seed);
        let disk = random.bytes(block_size * free.len() + tail * SECTOR);
        let time = random.bits();

        Self::on(disk, version, block_size, free, time, seed)
    }

    /// Begins the history of a device that holds `disk`, which may end in the middle of a last
    /// block, and enters state 1 at `time`, in seconds since the epoch.
    pub fn on(
        disk: Vec<u8>,
        version: Version,
        block_size: usize,
        free: &[bool],
        time: u64,
        seed: u64,
    ) -> Option<Self> {
        let mut random = Random::new(!seed);
        let tail = disk.len() % block_size;
        let mut free = free.to_vec();
        *free.first_mut()? = false;
        if tail > 0 {
            free.push(false);
        }
        let kinds = free
            .iter()
            .map(|free| if *free { Kind::Free } else { Kind::Unchanged })
            .collect();
        let mut history = Self {
            block_size,
            version,
            old: disk.clone(),
            new: disk.clone(),
            disk,
            kinds,
            first_block: 0,
            sequence: 0,
            entries: Vec::new(),
            uuid: random.bytes(16),
            time,
            random,
            total_entries: 0,
            moves: 0,
            map: (0, 0, 0),
            touched: vec![false; free.len()],
            grants: 0,
            written: HashSet::new(),
            free_at_checkpoint: free,
        };

        if history.free() < 2 {
            return None;
        }
        history.first_block = history.place(1, Kind::FirstBlock)?;
        history.copy(0, history.first_block, 1);
        history.kinds[0] = Kind::Changed;
        let backup = history.place(1, Kind::Backup)?;
        history.copy(0, backup, 1);
        history.entry(0, backup, 1, true)?;
        if version == Version::V1_2 {
            history.write_map();
        }
        history.write_log();
        Some(history)
    }

    /// Returns the number of blocks; the end of the device may cut off the last.
    pub fn blocks(&self) -> usize {
        self.kinds.len()
    }

    /// Returns whether all of a block is on the device.
    fn is_whole(&self, block: usize) -> bool {
        (block + 1) * self.block_size <= self.disk.len()
    }

    /// Returns the checkpoint's identity: uuid and time.
    pub fn identity(&self) -> (&[u8], u64) {
        (&self.uuid, self.time)
    }

    /// Returns where the relocated first block is, in sectors.
    pub fn sector0(&self) -> u64 {
        self.sector(self.first_block)
    }

    /// Returns the number of free blocks.
    fn free(&self) -> usize {
        self.kinds
            .iter()
            .filter(|kind| **kind == Kind::Free)
            .count()
    }

    /// Returns the number of log blocks.
    pub fn log_blocks(&self) -> u64 {
        u64::from(self.sequence) + 1
    }

    /// Returns what the disk must hold after a rollback, block by block; `None` where it may hold
    /// anything.
    pub fn rolled_back(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.old
            .chunks(self.block_size)
            .zip(&self.free_at_checkpoint)
            .map(|(data, free)| (!free).then_some(data))
    }

    /// Panics unless `disk` holds what it must after a rollback, of which a test says `what` it is: in what
    /// was free, too, nothing is left of what the file system has written.
    pub fn assert_rolled_back(&self, disk: &[u8], what: &str) {
        self.assert(disk, self.rolled_back(), what);
        if self.map.0 == 0 {
            return;
        }
        for (block, data) in disk.chunks(self.block_size).enumerate() {
            let left = self.free_at_checkpoint[block]
                && data
                    .chunks(SECTOR)
                    .any(|sector| self.written.contains(&begin(sector)));

            assert!(!left, "block {block} still has new data: {what}");
        }
    }

    /// Returns whether the log has all that resuming it needs.
    pub fn is_resumable(&self) -> bool {
        self.map.0 != 0
    }

    /// Returns what the log tells of each block but the first.
    pub fn told(&self) -> Vec<Told> {
        self.kinds
            .iter()
            .zip(&self.touched)
            .map(|(kind, touched)| match kind {
                Kind::Unchanged => Told::Unchanged,
                Kind::Free if !touched => Told::Free,
                Kind::Free | Kind::Changed => Told::Writable,
                Kind::Backup => Told::Backup,
                Kind::FirstBlock => Told::FirstBlock,
            })
            .collect()
    }

    /// Returns what the disk must hold when the new state is kept, block by block; `None` where it
    /// may hold anything.
    pub fn kept(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.new
            .chunks(self.block_size)
            .zip(&self.kinds)
            .map(|(data, kind)| matches!(kind, Kind::Unchanged | Kind::Changed).then_some(data))
    }

    /// Panics unless `disk` holds what it must. `what` tells which state of which test this is.
    pub fn assert<'a>(
        &self,
        disk: &[u8],
        must: impl Iterator<Item = Option<&'a [u8]>>,
        what: &str,
    ) {
        assert_eq!(disk.len(), self.new.len(), "{what}");
        for (block, (holds, must)) in disk.chunks(self.block_size).zip(must).enumerate() {
            if let Some(must) = must {
                assert!(holds == must, "block {block} is wrong: {what}");
            }
        }
    }

    /// Does what the file system does, until free space runs out. Returns whether it did.
    pub fn run(&mut self, ops: &[Op]) -> bool {
        for op in ops {
            if self.op(op).is_none() {
                self.write_log();
                return false;
            }
            self.write_log();
        }
        true
    }

    fn op(&mut self, op: &Op) -> Option<()> {
        match *op {
            Op::Write { block, blocks } => {
                let first = block % self.blocks();
                let end = (first + blocks.max(1)).min(self.blocks());
                let mut block = first;

                while block < end {
                    block += self.prepare(block, end - block)?;
                }
                let data = self.random.bytes((end - first) * self.block_size);
                self.written.extend(data.chunks(SECTOR).map(begin));
                for (block, data) in (first..end).zip(data.chunks(self.block_size)) {
                    let place = if block == 0 { self.first_block } else { block };

                    put(&mut self.disk, place, data);
                    put(&mut self.new, block, data);
                }
            }
            Op::Discard { block } => {
                let block = block % self.blocks();

                if block != 0 && self.kinds[block] == Kind::Changed && self.is_whole(block) {
                    self.kinds[block] = Kind::Free;
                }
            }
            Op::EmptyEntry => {
                let (source, dest) = (
                    self.random.index(self.blocks()),
                    self.random.index(self.blocks()),
                );

                // One that is no grant.
                let (source, dest) = match self.version {
                    Version::V1_2 => (source.max(dest), source.min(dest)),
                    _ => (source, dest),
                };

                // Not where a backup must stand.
                if self.entries.len() > 1 {
                    self.entry(source, dest, 0, true)?;
                }
            }
        }
        Some(())
    }

    /// Makes `block` ready to be written, and perhaps some that follow it, at most `most`. Returns
    /// how many; `None` if there is no free space.
    fn prepare(&mut self, block: usize, most: usize) -> Option<usize> {
        let kind = self.kinds[block];

        match kind {
            _ if block == 0 => return Some(1),
            Kind::Changed => return Some(1),
            Kind::Free if self.map.0 > 0 => return self.grant(block),
            Kind::Free => {
                self.changed(block, 1);
                return Some(1);
            }
            Kind::Unchanged | Kind::Backup | Kind::FirstBlock => {}
        }
        // Before the copy, so that there is none that no entry names.
        self.make_room()?;

        let run = self.kinds[block..]
            .iter()
            .take(if kind == Kind::FirstBlock { 1 } else { most })
            .take_while(|next| **next == kind)
            .count();
        let blocks = (1..=run).rev().find(|blocks| self.fits(*blocks))?;
        let place = self.place(
            blocks,
            if kind == Kind::FirstBlock {
                Kind::FirstBlock
            } else {
                Kind::Backup
            },
        )?;

        self.copy(block, place, blocks);
        self.entry(block, place, blocks, kind != Kind::FirstBlock)?;
        if kind == Kind::FirstBlock {
            self.first_block = place;
        }
        if kind != Kind::Unchanged {
            self.moves += 1;
        }
        self.changed(block, blocks);
        Some(blocks)
    }

    /// Grants a window of free space around a free block, and gives the file system what is free there.
    fn grant(&mut self, block: usize) -> Option<usize> {
        // Free again after it was written: the log says already that it may be.
        if self.touched[block] && !self.random.once_in(4) {
            self.changed(block, 1);
            return Some(1);
        }
        let mut size = 1 << self.random.index(6);
        // Smaller when space is short.
        while size > 1 && size * 8 > self.free() {
            size /= 2;
        }
        let start = block / size * size;
        let window = start..(start + size).min(self.blocks());

        self.append_grant(&window)?;
        for block in window {
            if self.kinds[block] == Kind::Free {
                self.changed(block, 1);
            }
        }
        // The log may have grown into the block itself, which is then to be moved.
        Some(usize::from(self.kinds[block] == Kind::Changed))
    }

    /// Appends a grant of the blocks of `window`.
    fn append_grant(&mut self, window: &Range<usize>) -> Option<()> {
        self.make_room()?;
        self.entries.push(log::entry(
            self.sector(window.start),
            self.sector(window.end),
            0,
            0,
        ));
        self.grants += 1;
        Some(())
    }

    /// Writes the free map, if there is room for it.
    fn write_map(&mut self) {
        let mut extents: Vec<Range<usize>> = Vec::new();
        for block in 0..self.blocks() {
            match extents.last_mut() {
                _ if !self.free_at_checkpoint[block] => {}
                Some(last) if last.end == block => last.end += 1,
                _ => extents.push(block..block + 1),
            }
        }
        // Few in each block, so that small devices have maps of several blocks.
        let most = 1 + self.random.index(20);
        let pieces: Vec<_> = extents.chunks(most).map(<[_]>::to_vec).collect();
        if self.free() < pieces.len() {
            return;
        }
        let mut below = 0;
        for piece in pieces {
            let Some(place) = self.place(1, Kind::Backup) else {
                return;
            };
            let (sector, blocks, sum) = self.map;
            let start = self.random.index(piece[0].start - below + 1) + below;
            let position = piece[piece.len() - 1].end;
            let mut data = log::map_block(sector, sum, start, &piece);
            data.resize(self.block_size, 0);
            below = position;
            put(&mut self.disk, place, &data);
            self.map = (self.sector(place), blocks + 1, crc(place as u32, &data));
        }
    }

    /// Gives blocks to the file system. If space runs out before it has written to them, it finds
    /// there what there is.
    fn changed(&mut self, block: usize, blocks: usize) {
        let end = ((block + blocks) * self.block_size).min(self.disk.len());
        let bytes = block * self.block_size..end;

        self.new[bytes.clone()].copy_from_slice(&self.disk[bytes]);
        self.kinds[block..block + blocks].fill(Kind::Changed);
        self.touched[block..block + blocks].fill(true);
    }

    /// Returns whether there is a free run of so many blocks.
    fn fits(&self, blocks: usize) -> bool {
        self.kinds
            .windows(blocks)
            .any(|window| window.iter().all(|kind| *kind == Kind::Free))
    }

    /// Takes a free run of so many blocks, any.
    fn place(&mut self, blocks: usize, kind: Kind) -> Option<usize> {
        let starts: Vec<_> = self
            .kinds
            .windows(blocks)
            .enumerate()
            .filter(|(_, window)| window.iter().all(|kind| *kind == Kind::Free))
            .map(|(start, _)| start)
            .collect();
        let start = match starts.len() {
            0 => return None,
            len if self.random.once_in(2) => starts[self.random.index(len)],
            _ => starts[0],
        };

        self.kinds[start..start + blocks].fill(kind);
        Some(start)
    }

    /// Copies blocks; what the device has not of them reads as zeroes.
    fn copy(&mut self, from: usize, to: usize, blocks: usize) {
        let (from, to) = (from * self.block_size, to * self.block_size);
        let size = blocks * self.block_size;
        let there = size.min(self.disk.len() - from);

        self.disk.copy_within(from..from + there, to);
        self.disk[to + there..to + size].fill(0);
    }

    fn sector(&self, block: usize) -> u64 {
        (block * self.block_size / SECTOR) as u64
    }

    /// Appends an entry, in a new log block if need be.
    fn entry(&mut self, source: usize, dest: usize, blocks: usize, summed: bool) -> Option<()> {
        self.make_room()?;
        self.append(source, dest, blocks, summed);
        Some(())
    }

    /// Begins a new log block if there is no room in this one.
    fn make_room(&mut self) -> Option<()> {
        if self.entries.len() == self.version.room(self.block_size) {
            self.write_log();
            let rest = self.place(1, Kind::Backup)?;
            self.copy(0, rest, 1);
            self.sequence += 1;
            self.entries.clear();
            self.append(0, rest, 1, true);
        }
        Some(())
    }

    fn append(&mut self, source: usize, dest: usize, blocks: usize, summed: bool) {
        let data = &self.disk[dest * self.block_size..(dest + blocks) * self.block_size];
        let size = (blocks * self.block_size) as u32;
        let sum = if summed { crc(source as u32, data) } else { 0 };
        let entry = log::entry(self.sector(source), self.sector(dest), size, sum);

        self.entries.push(entry);
        self.total_entries += u64::from(blocks > 0);
    }

    /// Writes the log block to the disk's first block.
    fn write_log(&mut self) {
        let header = Header {
            version: self.version,
            block_size: self.block_size as u32,
            sequence: self.sequence,
            sector0: self.sector(self.first_block),
            uuid: &self.uuid,
            time: self.time,
            map: self.map,
        };
        let mut log = header.log_block(&self.entries);

        log.resize(self.block_size, 0);
        put(&mut self.disk, 0, &log);
    }
}

/// Returns the first eight bytes of a sector.
fn begin(sector: &[u8]) -> u64 {
    u64::from_le_bytes(sector[..8].try_into().unwrap())
}

/// Puts a block's data in its place, as far as the device has it.
fn put(disk: &mut [u8], block: usize, data: &[u8]) {
    for (to, from) in disk[block * data.len()..].iter_mut().zip(data) {
        *to = *from;
    }
}
