// SPDX-License-Identifier: GPL-2.0

//! A device in memory that carries out the decisions of state 1, one batch at a time.
//!
//! The disk has a cache. A power cut undoes any of the file system's writes since the last flush, sector by
//! sector, and finds a batch at any point of its I/O. At any moment the disk rolls back and can be kept.

use crate::decisions::batch::{Batch, CopyError};
use crate::decisions::begin::Memory;
use crate::decisions::block_size::BlockSize;
use crate::decisions::chain::Appended;
use crate::decisions::checkpoint::{Checkpoint, Verdict};
use crate::decisions::free_map::MapBlock;
use crate::decisions::free_space::FreeSpace;
use crate::decisions::log::{entry_seed, Identity, Sector};
use crate::decisions::ranges::{Kind, Nodes, RangeTree};
use crate::decisions::resume::Resume;
use bow_model::disk::{Disk, SECTOR};
use bow_model::log::crc;
use bow_model::restore::restore;
use bow_random::Random;
use bowctl::recovery;
use kernel::prelude::GFP_KERNEL;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

pub(crate) const MIB: u64 = (1 << 20) / SECTOR as u64;

/// The most sectors that are copied and never written, whatever the load.
const AHEAD_MAX: u64 = 24 * MIB;

/// A device of which the upper half is free at the checkpoint, but for a last block that its end cuts
/// off.
pub(crate) struct Device {
    pub(crate) sectors: u64,
    disk: Vec<u8>,
    /// Contents of a bare device now, and at the checkpoint.
    bare: Vec<u8>,
    old: Vec<u8>,
    free: Range<u64>,
    /// Sectors whose contents nobody may rely on.
    unknown: BTreeSet<u64>,
    pub(crate) block: BlockSize,
    pub(crate) checkpoint: Checkpoint,
    pub(crate) batch: Batch,
    /// Blocks that were prefetched and not written since.
    pub(crate) prefetched: BTreeSet<u64>,
    /// First eight bytes of each sector that was written: they tell what a restore must not leave.
    new: BTreeSet<[u8; 8]>,
    /// Blocks that were granted and not written since.
    granted: BTreeSet<u64>,
    pub(crate) random: Random,
    /// Sectors that were written since the last flush: what they held before, and whether that was unknown.
    pub(crate) unflushed: BTreeMap<u64, (Vec<u8>, bool)>,
    /// Power fails in one batch of so many.
    pub(crate) cuts: Option<usize>,
    /// True if the worker finds memory.
    pub(crate) has_memory: bool,
    /// One copy in so many fails.
    pub(crate) failures: Option<usize>,
    pub(crate) copies: u64,
    /// Copies of a last block that the end of the device cuts off.
    pub(crate) tails: u64,
    pub(crate) resumed: u64,
    pub(crate) taken_back: u64,
    pub(crate) written: u64,
    pub(crate) refused: u64,
}

fn bytes(sectors: &Range<u64>) -> Range<usize> {
    sectors.start as usize * SECTOR..sectors.end as usize * SECTOR
}

impl Device {
    pub(crate) fn new(sectors: u64, free: Range<u64>, block: u32, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let block = BlockSize::from_bytes(block).unwrap();
        let old = random.bytes(sectors as usize * SECTOR);
        let mut nodes = Nodes::new(RangeTree::NODES_PER_SET, GFP_KERNEL).unwrap();
        nodes.fill(GFP_KERNEL).unwrap();
        let mut space = FreeSpace::new();
        space.discard(free.clone(), &mut nodes).unwrap();
        nodes.fill(GFP_KERNEL).unwrap();
        let ranges = space
            .into_ranges(block, block.sectors()..sectors, &mut nodes)
            .unwrap();
        let identity = Identity {
            uuid: [7; 16],
            time: 1,
        };
        let memory = Memory::new(block, identity, GFP_KERNEL).unwrap();
        let mut checkpoint = Checkpoint::new(ranges, block, sectors, memory);
        let backup = checkpoint
            .place_first_block()
            .expect("there are two free blocks");
        let first = bytes(&(0..block.sectors()));
        let mut disk = old.clone();
        for place in [checkpoint.first_block(), backup] {
            let place = bytes(&(place..place + block.sectors()));
            disk[place].copy_from_slice(&old[first.clone()]);
        }
        let mut map = MapBlock::new(block, GFP_KERNEL).unwrap();
        checkpoint
            .write_free_map(&mut map, crc, |sector, data| {
                let place = sector as usize * SECTOR;
                disk[place..place + data.len()].copy_from_slice(data);
                Ok(())
            })
            .unwrap();
        checkpoint.begin(backup, crc(entry_seed(0, block.bytes()), &old[first]));
        let free = free.start..block.down(free.end);
        let mut device = Self {
            sectors,
            bare: old.clone(),
            old,
            disk,
            unknown: free.clone().collect(),
            free,
            block,
            checkpoint,
            batch: Batch::new(GFP_KERNEL).unwrap(),
            prefetched: BTreeSet::new(),
            new: BTreeSet::new(),
            granted: BTreeSet::new(),
            random,
            unflushed: BTreeMap::new(),
            cuts: None,
            has_memory: true,
            failures: None,
            copies: 0,
            tails: 0,
            resumed: 0,
            taken_back: 0,
            written: 0,
            refused: 0,
        };
        device.write_log();
        device
    }

    fn write_log(&mut self) {
        for entry in self.checkpoint.log().entries() {
            assert!(
                entry.size > 0 || entry.granted().is_some(),
                "{entry:?} says nothing"
            );
        }
        let mut log: Sector = [0; SECTOR];
        self.checkpoint.log().encode(&mut log, crc);
        self.disk[..SECTOR].copy_from_slice(&log);
    }

    /// Writes durably.
    fn write_fua(&mut self, sector: u64, data: &[u8]) {
        let start = sector as usize * SECTOR;
        self.disk[start..start + data.len()].copy_from_slice(data);
        for sector in sector..sector + (data.len() / SECTOR) as u64 {
            self.unflushed.remove(&sector);
        }
    }

    /// Has power fail: some of the unflushed sectors are lost.
    fn cut_power(&mut self) {
        for (sector, (old, was_unknown)) in std::mem::take(&mut self.unflushed) {
            if self.random.once_in(2) {
                let place = bytes(&(sector..sector + 1));
                self.disk[place.clone()].copy_from_slice(&old);
                self.bare[place].copy_from_slice(&old);
                if was_unknown {
                    self.unknown.insert(sector);
                }
            }
        }
        self.resume();
    }

    /// Carries out the batch, as the target does. Returns false if power fails meanwhile, which nothing that
    /// waits for the batch survives.
    fn run_batch(&mut self) -> bool {
        let cut = self.cuts.is_some_and(|n| self.random.once_in(n));
        let before_log = cut && self.random.once_in(2);
        let mut data = Vec::new();
        let mut failed = Vec::new();
        for copy in self.batch.copies_mut() {
            let start = copy.source as usize * SECTOR;
            let end = start + copy.source_bytes(self.sectors) as usize;
            let mut read = self.disk[start..end].to_vec();
            read.resize(copy.bytes() as usize, 0);
            copy.checksum = crc(entry_seed(copy.source, self.block.bytes()), &read);
            data.push(read);
            let fails = self.failures.is_some_and(|n| self.random.once_in(n));
            failed.push(fails.then(|| match self.random.once_in(2) {
                true => CopyError::Read,
                false => CopyError::Write,
            }));
        }
        let copies = self.batch.copies().to_vec();
        for ((copy, data), failed) in copies.iter().zip(&data).zip(&failed) {
            if failed.is_none() {
                // Of a write that power fails in, any sectors may arrive.
                let mut sectors = copy.dest..copy.dest_end();
                for data in data.chunks(SECTOR) {
                    let sector = sectors.next().unwrap();
                    if !before_log || self.random.once_in(2) {
                        self.write_fua(sector, data);
                    }
                }
                self.copies += 1;
                self.tails += u64::from(copy.source_end() > self.sectors);
            }
        }
        if before_log {
            self.cut_power();
            return false;
        }
        // How the backups end is known only later: then perhaps once more.
        let mut appended = self.append(|index| failed[index] == Some(CopyError::Read));
        if failed.contains(&Some(CopyError::Write)) {
            self.checkpoint.roll_back(appended);
            appended = self.append(|index| failed[index].is_some());
        }
        let good = failed.iter().filter(|failed| failed.is_none()).count();
        assert_eq!(appended.entries(), self.batch.good_grants() + good);
        if appended.entries() > 0 {
            self.write_log();
        }
        if cut {
            self.cut_power();
            return false;
        }
        let none_written = good == 0 && failed.len() > 1;
        let (block, granted) = (self.block, &mut self.granted);
        self.checkpoint.complete(
            &self.batch,
            &appended,
            |index| match none_written {
                true => failed[index].map(|_| CopyError::NoneWritten),
                false => failed[index],
            },
            |span| granted.extend(block.number(span.start)..block.number(span.end)),
        );
        let copies = self.batch.copies().iter().zip(&failed);
        for (copy, _) in copies.filter(|(_, failed)| failed.is_none()) {
            for span in copy.prefetched() {
                self.prefetched
                    .extend(self.block.number(span.start)..self.block.number(span.end));
            }
        }
        self.checkpoint.finish(&mut self.batch);
        // Nothing is left of a batch that has ended, however its copies did.
        for kind in [Kind::Copying, Kind::Reserved] {
            assert_eq!(self.checkpoint.ranges().total(kind), 0);
        }
        self.checkpoint.replenish(GFP_KERNEL);
        assert!(self.prefetched.len() as u64 * self.block.sectors() <= AHEAD_MAX);
        true
    }

    /// Appends the entries of the batch to the log and writes the log blocks that are full.
    fn append(&mut self, failed: impl Fn(usize) -> bool) -> Appended {
        let mut sectors = Vec::new();
        let appended = self
            .checkpoint
            .append(&self.batch, failed, crc, |_, sector| sectors.push(*sector))
            .unwrap();
        for (&full, sector) in appended.full_blocks().iter().zip(&sectors) {
            let mut block = sector.to_vec();
            block.resize(self.block.bytes() as usize, 0);
            self.write_fua(full, &block);
        }
        appended
    }

    /// Does what the worker does when space for backups is short.
    fn take_back(&mut self) -> bool {
        let taken: Vec<u64> = self.granted.iter().copied().take(16).collect();
        for &block in &taken {
            let start = self.block.sectors_of(block);
            if self
                .checkpoint
                .take_back(start..start + self.block.sectors())
            {
                self.granted.remove(&block);
                self.taken_back += 1;
            }
        }
        !taken.is_empty()
    }

    /// Has power fail now, and resumes the checkpoint from what is on the disk.
    fn resume(&mut self) {
        let mut resume = Resume::new(&self.disk[..SECTOR], self.sectors, crc).unwrap();
        let disk = &self.disk;
        let Ok(read) = resume.read_all(|sector, bytes| {
            let start = sector as usize * SECTOR;
            bytes.copy_from_slice(&disk[start..start + bytes.len()]);
            Ok::<_, std::convert::Infallible>(())
        });
        read.unwrap();
        assert_eq!(resume.newest().block_size, self.block.bytes());
        let header = *resume.newest();
        let free = resume.free_at_first();
        assert_eq!(free, self.checkpoint.free_at_first());
        let ranges = resume.finish().unwrap();
        let memory = Memory::new(self.block, header.identity.unwrap(), GFP_KERNEL).unwrap();
        self.checkpoint = Checkpoint::resume(
            ranges,
            free,
            self.block,
            self.sectors,
            memory,
            &header,
            header.entries(&self.disk[..SECTOR]),
        );
        self.checkpoint.ranges().check();
        self.batch = Batch::new(GFP_KERNEL).unwrap();
        self.prefetched.clear();
        self.granted.clear();
        self.resumed += 1;
    }

    /// Resumes between two batches, and compares with what was known before.
    pub(crate) fn resume_and_compare(&mut self) {
        let kinds = |device: &Self| -> Vec<Option<Kind>> {
            let ranges = device.checkpoint.ranges();
            (0..device.sectors)
                .map(|sector| ranges.run_at(sector).kind)
                .collect()
        };
        let before = kinds(self);
        self.resume();
        for (sector, (before, after)) in before.iter().zip(kinds(self)).enumerate() {
            let is_right = match (before, after) {
                (before, after) if *before == after => true,
                // What was granted may have been written, for all that the log says.
                (Some(Kind::Free | Kind::Discarded | Kind::Draining), Some(Kind::Writable)) => true,
                // The log does not say of a place that it is bad.
                (Some(Kind::Bad | Kind::Reserved), Some(Kind::Free | Kind::Writable)) => true,
                _ => false,
            };
            assert!(is_right, "sector {sector} was {before:?}, is {after:?}");
        }
    }

    fn count_hits(&mut self, span: &Range<u64>) {
        let blocks = self.block.number(span.start)..self.block.number(self.block.up(span.end));
        blocks.clone().for_each(|block| {
            self.granted.remove(&block);
        });
        let hits = blocks.filter(|block| self.prefetched.remove(block)).count();
        self.checkpoint.prefetch_hits(hits as u64);
    }

    /// Does what the worker does with the writes that came together.
    pub(crate) fn write(&mut self, spans: &[Range<u64>]) {
        let mut waiting: Vec<_> = spans.to_vec();
        for _ in 0..50 {
            self.checkpoint.open(&mut self.batch, waiting.len());
            waiting.retain(|span| {
                if span.start < self.block.sectors() {
                    let sector0 = self.checkpoint.first_block();
                    let moves = self.batch.moves_first_block();
                    if !moves {
                        self.put(span, span.start + sector0..span.end + sector0);
                    }
                    return moves;
                }
                let mut verdict = self.checkpoint.prepare(span, Some(&mut self.batch));
                if verdict == Verdict::NoSpace && self.checkpoint.begin_reclaim() {
                    self.checkpoint.reclaim();
                    verdict = self.checkpoint.prepare(span, Some(&mut self.batch));
                }
                if verdict == Verdict::NoSpace && self.take_back() {
                    verdict = self.checkpoint.prepare(span, Some(&mut self.batch));
                }
                match verdict {
                    Verdict::Writable => {
                        self.count_hits(span);
                        self.put(span, span.clone());
                    }
                    Verdict::NoSpace => self.refused += 1,
                    Verdict::Joined | Verdict::Later => return true,
                }
                false
            });
            self.checkpoint.close();
            if waiting.is_empty() && self.batch.entries() == 0 {
                return;
            }
            if !self.run_batch() {
                return;
            }
        }
        // Failures may keep a write from ever succeeding; the target ends it with the first.
        assert!(self.failures.is_some());
        self.refused += waiting.len() as u64;
    }

    fn put(&mut self, span: &Range<u64>, place: Range<u64>) {
        let data = self.random.bytes(SECTOR * (span.end - span.start) as usize);
        // The relocated first block may move, and what is read from the cache then is durable.
        if place == *span {
            for sector in span.clone() {
                let old = self.disk[bytes(&(sector..sector + 1))].to_vec();
                let is_unknown = self.unknown.contains(&sector);
                self.unflushed.entry(sector).or_insert((old, is_unknown));
            }
        }
        self.new.extend(
            data.chunks(SECTOR)
                .map(|sector| *sector.first_chunk().unwrap()),
        );
        self.disk[bytes(&place)].copy_from_slice(&data);
        self.bare[bytes(span)].copy_from_slice(&data);
        span.clone().for_each(|sector| {
            self.unknown.remove(&sector);
        });
        self.written += span.end - span.start;
    }

    pub(crate) fn discard(&mut self, span: &Range<u64>) {
        let mut freed = Vec::new();
        self.checkpoint.discard(span, |span| freed.push(span));
        freed.iter().for_each(|span| self.count_hits(span));
        self.unknown.extend(span.clone());
        // The first block is never free.
        (0..self.block.sectors()).for_each(|sector| {
            self.unknown.remove(&sector);
        });
    }

    /// Checks that after a power cut now both ways out hold.
    pub(crate) fn check(&mut self) {
        let mut disk = Disk::new(self.disk.clone());
        restore(&mut disk).unwrap();
        self.same("restored", &disk.data, &self.old, |sector| {
            self.free.contains(&sector)
        });
        for sector in self.free.clone() {
            let data = &disk.data[bytes(&(sector..sector + 1))];
            assert!(
                !self.new.contains(data.first_chunk().unwrap()),
                "restored: sector {sector} still has new data"
            );
        }
        let mut disk = Disk::new(self.disk.clone());
        recovery::commit(&mut disk).unwrap();
        self.same("kept", &disk.data, &self.bare, |sector| {
            self.unknown.contains(&sector)
        });
    }

    fn same(&self, what: &str, is: &[u8], wanted: &[u8], exempt: impl Fn(u64) -> bool) {
        for sector in 0..(is.len() / SECTOR) as u64 {
            let range = bytes(&(sector..sector + 1));
            assert!(
                exempt(sector) || is[range.clone()] == wanted[range],
                "{what}: sector {sector} differs"
            );
        }
    }
}
