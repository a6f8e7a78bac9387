// SPDX-License-Identifier: GPL-2.0

//! Decisions in state 1, carried out on a disk in memory: random writes and discards, copies that
//! fail, space that runs out, power cuts after which the checkpoint is resumed. At any moment the disk
//! rolls back and can be kept.
//!
//! The disk has a cache. A power cut undoes any of the file system's writes since the last flush, sector by
//! sector, and finds a batch at any point of its I/O.

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
use bow_model::history::crc;
use bow_model::restore::restore;
use bow_random::Random;
use bowctl::recovery;
use kernel::prelude::GFP_KERNEL;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

const MIB: u64 = (1 << 20) / SECTOR as u64;

/// The most sectors that are copied and never written, whatever the load.
const AHEAD_MAX: u64 = 24 * MIB;

/// A device of which the upper half is free at the checkpoint, but for a last block that its end cuts
/// off.
struct Device {
    sectors: u64,
    disk: Vec<u8>,
    /// Contents of a bare device now, and at the checkpoint.
    bare: Vec<u8>,
    old: Vec<u8>,
    free: Range<u64>,
    /// Sectors whose contents nobody may rely on.
    unknown: BTreeSet<u64>,
    block: BlockSize,
    checkpoint: Checkpoint,
    batch: Batch,
    /// Blocks that were prefetched and not written since.
    prefetched: BTreeSet<u64>,
    /// First eight bytes of each sector that was written: they tell what a restore must not leave.
    new: BTreeSet<[u8; 8]>,
    /// Blocks that were granted and not written since.
    granted: BTreeSet<u64>,
    random: Random,
    /// Sectors that were written since the last flush: what they held before, and whether that was unknown.
    unflushed: BTreeMap<u64, (Vec<u8>, bool)>,
    /// Power fails in one batch of so many.
    cuts: Option<usize>,
    /// True if the worker finds memory.
    has_memory: bool,
    /// One copy in so many fails.
    failures: Option<usize>,
    copies: u64,
    /// Copies of a last block that the end of the device cuts off.
    tails: u64,
    resumed: u64,
    taken_back: u64,
    written: u64,
    refused: u64,
}

fn bytes(sectors: &Range<u64>) -> Range<usize> {
    sectors.start as usize * SECTOR..sectors.end as usize * SECTOR
}

impl Device {
    fn new(sectors: u64, free: Range<u64>, block: u32, seed: u64) -> Self {
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
        while let Some(read) = resume.next().unwrap() {
            let start = read.sector as usize * SECTOR;
            resume.feed(&self.disk[start..start + read.bytes]).unwrap();
        }
        assert_eq!(resume.newest().block_size, self.block.bytes());
        let header = *resume.newest();
        let ranges = resume.finish().unwrap();
        let memory = Memory::new(self.block, header.identity.unwrap(), GFP_KERNEL).unwrap();
        self.checkpoint = Checkpoint::resume(
            ranges,
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
    fn resume_and_compare(&mut self) {
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
    fn write(&mut self, spans: &[Range<u64>]) {
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

    fn discard(&mut self, span: &Range<u64>) {
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
    fn check(&mut self) {
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

/// Runs random writes of all shapes everywhere, discards, and now and then a copy that fails.
fn random_load(block: u32, failures: Option<usize>, free: u64, seed: u64) -> Device {
    let sectors = 4096 + seed % 8;
    let mut device = Device::new(sectors, 4096 - free..sectors, block, seed);
    device.failures = failures;
    load(&mut device);
    device
}

fn load(device: &mut Device) {
    let sectors = device.sectors;
    for step in 0..400 {
        let mut spans: Vec<Range<u64>> = Vec::new();
        for _ in 0..1 + device.random.index(6) {
            let start = device.random.below(sectors);
            let start = match device.random.index(16) {
                0..2 => start % 8,
                2 => sectors - 1 - start % 16,
                _ => start,
            };
            let length = 1 + device.random.below(40);
            // As `map` does: what begins in the first block ends there.
            let limit = if start < device.block.sectors() {
                device.block.sectors()
            } else {
                sectors
            };
            let span = start..(start + length).min(limit);
            // Writes that overlap and are in flight together have no order.
            if spans
                .iter()
                .all(|other| span.end <= other.start || other.end <= span.start)
            {
                spans.push(span);
            }
        }
        let injection = (!device.has_memory).then(kernel::inject::fail_all);
        if device.random.once_in(5) {
            spans.iter().for_each(|span| device.discard(span));
        } else {
            device.write(&spans);
        }
        drop(injection);
        if device.random.once_in(4) {
            device.unflushed.clear();
        }
        if step % 40 == 39 {
            device.check();
        }
        if step % 120 == 119 {
            device.resume_and_compare();
        }
    }
}

#[test]
fn random_loads() {
    for seed in 0..12 {
        for block in [512, 1024, 4096] {
            let device = random_load(block, None, 2048, seed);
            assert!(device.copies > 50 && device.written > 1000);
            let is_cut_off = device.sectors % device.block.sectors() > 0;
            assert_eq!(device.tails > 0, is_cut_off);
        }
    }
}

#[test]
fn random_loads_with_copies_that_fail() {
    for seed in 0..12 {
        for block in [512, 2048] {
            let device = random_load(block, Some(6), 2048, seed);
            assert!(device.copies > 50 && device.written > 1000);
        }
    }
}

/// After any power cut the checkpoint goes on, and rolls back to its first state.
#[test]
fn random_loads_with_power_cuts() {
    let mut resumed = 0;
    for seed in 0..24 {
        for block in [512, 4096] {
            let sectors = 4096 + seed % 8;
            let free = if seed % 3 == 0 { 600 } else { 2048 };
            let mut device = Device::new(sectors, 4096 - free..sectors, block, seed);
            device.failures = (seed % 4 == 1).then_some(8);
            device.cuts = Some(10);
            load(&mut device);
            resumed += device.resumed;
        }
    }
    println!("resumed {resumed} times");
    assert!(resumed > 400);
}

/// Tree nodes are what copies that fail need, in the middle of a batch, and must not run out.
#[test]
fn random_loads_without_memory_and_with_copies_that_fail() {
    for seed in 0..12 {
        for block in [512, 4096] {
            let sectors = 4096 + seed % 8;
            let mut device = Device::new(sectors, 2048..sectors, block, seed);
            device.failures = Some(3);
            device.has_memory = false;
            load(&mut device);
            assert!(device.copies > 50);
        }
    }
}

#[test]
fn random_loads_with_little_space() {
    for seed in 0..12 {
        for block in [512, 4096] {
            let device = random_load(block, None, 400, seed);
            assert!(device.refused > 0);
        }
    }
}

/// Returns a device of which 128 MiB are free.
fn large() -> Device {
    Device::new(320 * MIB, 192 * MIB..320 * MIB, 4096, 5)
}

/// Does first writes of 4 KiB to `range`, `count` of them in random order, `depth` at a time.
fn scatter(device: &mut Device, range: Range<u64>, count: usize, depth: usize) {
    let mut blocks: Vec<u64> = range.step_by(8).collect();
    for index in (1..blocks.len()).rev() {
        blocks.swap(index, device.random.index(index + 1));
    }
    for some in blocks[..count].chunks(depth) {
        let spans: Vec<_> = some.iter().map(|&start| start..start + 8).collect();
        device.write(&spans);
    }
}

/// If everything is written in the end, most of it is copied by few large copies: the fewer, the
/// fewer writes wait for them.
#[test]
fn a_dense_load_is_copied_in_large_pieces() {
    for (depth, most) in [(1, 250), (8, 550), (32, 700)] {
        let mut device = large();
        scatter(&mut device, 16 * MIB..32 * MIB, 4096, depth);
        println!(
            "{} copies for 4096 writes, {depth} at a time",
            device.copies
        );
        assert!(device.copies < most);
        // Windows may reach over the ends of what is written.
        assert!(device.prefetched.len() < 32);
    }
}

/// A journal goes through its space in small writes.
#[test]
fn a_stream_is_copied_in_large_pieces() {
    let mut device = large();
    // What is prefetched in vain leaves nothing for trials.
    for start in 0..40 {
        let span = start * 4 * MIB + MIB..start * 4 * MIB + MIB + 8;
        device.write(std::slice::from_ref(&span));
    }
    let before = device.copies;
    for start in (170 * MIB + 24..172 * MIB).step_by(16) {
        device.write(std::slice::from_ref(&(start..start + 16)));
    }
    println!("{} copies for 254 writes", device.copies - before);
    assert!(device.copies - before < 25);
}

/// Free space is taken piece by piece, and a piece seldom ends where a window does.
#[test]
fn a_copy_takes_what_is_left_of_a_piece_of_free_space() {
    let mut device = large();
    for start in (16 * MIB..40 * MIB).step_by(8) {
        device.write(std::slice::from_ref(&(start..start + 8)));
    }
    println!("{} copies for 24 MiB", device.copies);
    assert!(device.copies < 40);
}

/// If little is written, no more than a few windows are copied in vain.
#[test]
fn a_sparse_load_is_copied_as_it_comes() {
    let mut device = large();
    scatter(&mut device, 16 * MIB..136 * MIB, 4096, 32);
    let vain = device.prefetched.len() as u64 * 8;
    println!(
        "{} copies for 4096 writes, {} KiB in vain",
        device.copies,
        vain / 2
    );
    assert!(vain < 4 * MIB);
}

/// The range that a dense load has shown is soon forgotten.
#[test]
fn a_sparse_load_after_a_dense_one_is_copied_as_it_comes() {
    for depth in [4, 32] {
        let mut device = large();
        scatter(&mut device, MIB..17 * MIB, 4096, depth);
        scatter(&mut device, 32 * MIB..152 * MIB, 4096, depth);
        let vain = device.prefetched.len() as u64 * 8;
        println!("{} KiB in vain, {depth} at a time", vain / 2);
        assert!(vain < 4 * MIB);
    }
}
