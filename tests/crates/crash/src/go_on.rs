// SPDX-License-Identifier: GPL-2.0

//! A device that is resumed after a power cut and goes on, until power fails again.
//!
//! Here the decisions of the kernel module are carried out by a worker of a few lines: one batch at a time, its
//! log before its writes. Each life ends in a power cut: what was not flushed is lost sector by sector, and a batch
//! is found at any point.

use crate::contents::{Id, GARBAGE, SECTOR, ZEROES};
use crate::device::Device;
use crate::promises;
use crate::recording::Recording;
use crate::trace::Time;
use bow_decisions::batch::Batch;
use bow_decisions::begin::Memory;
use bow_decisions::block_size::BlockSize;
use bow_decisions::checkpoint::{Checkpoint, Verdict};
use bow_decisions::log::{entry_seed, Sector};
use bow_decisions::ranges::Kind;
use bow_decisions::resume::Resume;
use bow_random::Random;
use bowctl::crc::crc32;
use bowctl::device::BlockDevice;
use kernel::prelude::GFP_KERNEL;
use std::collections::BTreeMap;
use std::ops::Range;

/// Lives after the first power cut, at most.
const LIVES_MAX: usize = 4;

/// Writes that come together, at most.
const TOGETHER_MAX: usize = 6;

/// Outcome of going on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GoneOn {
    /// Resumes.
    pub(crate) lives: usize,
    /// Writes that were carried out.
    pub(crate) writes: usize,
}

/// A device in state 1.
struct Live<'a, 'b> {
    device: &'b mut Device<'a>,
    block: BlockSize,
    checkpoint: Checkpoint,
    batch: Batch,
    /// Old contents of the sectors that were written since the last flush.
    unflushed: BTreeMap<usize, Id>,
    /// Contents of all sectors that were written since the first resume.
    written: BTreeMap<usize, Id>,
}

/// Resumes `device`, which power has failed at after the first `cut` events, up to [`LIVES_MAX`] times. In the end
/// the device must go both ways: back to the checkpoint, and on with all that was written.
///
/// # Errors
///
/// The promise that is broken.
pub(crate) fn go_on(
    recording: &Recording,
    device: &mut Device<'_>,
    cut: Time,
    random: &mut Random,
) -> Result<GoneOn, String> {
    let mut gone_on = GoneOn::default();
    let before = device.clone();
    let mut written = BTreeMap::new();
    for life in 0..1 + random.index(LIVES_MAX) {
        let mut live = Live::resume(device, std::mem::take(&mut written))
            .map_err(|error| format!("resume: {error}"))?;
        if life == 0 {
            live.frees_nothing_written(recording, cut)?;
        }
        gone_on.lives += 1;
        gone_on.writes += live.live(random);
        written = live.written;
    }
    let told = |error: String| format!("after {} resumes: {error}", gone_on.lives);
    let mut restored = device.with(device.sectors.clone());
    promises::restore(recording, &mut restored, cut)
        .and_then(|()| promises::rolled_back(recording, &restored.sectors, cut))
        .and_then(|()| leaves_nothing(&restored))
        .map_err(told)?;
    let mut kept = device.with(device.sectors.clone());
    promises::keep(&mut kept)
        .and_then(|()| holds(&kept, &written))
        .and_then(|()| as_before(recording, before, &kept, &written, cut))
        .map_err(|error| told(format!("kept: {error}")))?;
    Ok(gone_on)
}

/// Checks that a device that was rolled back holds nothing of what was written after a resume.
fn leaves_nothing(device: &Device<'_>) -> Result<(), String> {
    match (0..device.sectors.len()).find(|&sector| device.is_new(sector)) {
        Some(sector) => Err(format!("sector {sector} holds what was undone")),
        None => Ok(()),
    }
}

/// Checks that `device` holds all that was `written`.
fn holds(device: &Device<'_>, written: &BTreeMap<usize, Id>) -> Result<(), String> {
    let lost = |&(&sector, &id): &(&usize, &Id)| device.sectors[sector] != id;
    match written.iter().find(lost) {
        Some((sector, _)) => Err(format!("sector {sector}, written after a resume, is lost")),
        None => Ok(()),
    }
}

/// Checks that what was not `written` since the power cut at `cut` is what the cut had left.
fn as_before(
    recording: &Recording,
    mut before: Device<'_>,
    kept: &Device<'_>,
    written: &BTreeMap<usize, Id>,
    cut: Time,
) -> Result<(), String> {
    promises::keep(&mut before)?;
    let mut sectors = kept.sectors.clone();
    for &sector in written.keys() {
        sectors[sector] = before.sectors[sector];
    }
    promises::as_bare(recording, &sectors, cut)
}

impl<'a, 'b> Live<'a, 'b> {
    /// Rebuilds the checkpoint from the log.
    fn resume(device: &'b mut Device<'a>, written: BTreeMap<usize, Id>) -> Result<Self, String> {
        let sectors = device.sectors.len() as u64;
        let mut resume = Resume::new(device.sector(0), sectors, crc32).map_err(text)?;
        resume
            .read_all(|sector, bytes| device.read_at(sector, bytes))
            .map_err(text)?
            .map_err(text)?;
        let header = *resume.newest();
        let block = BlockSize::from_bytes(header.block_size).ok_or("no block size")?;
        let free = resume.free_at_first();
        let ranges = resume.finish().map_err(text)?;
        let identity = header.identity.ok_or("no identity")?;
        let memory =
            Memory::new(block, identity, GFP_KERNEL).map_err(|error| format!("{error:?}"))?;
        let entries: Vec<_> = header.entries(device.sector(0)).collect();
        let checkpoint = Checkpoint::resume(
            ranges,
            free,
            block,
            sectors,
            memory,
            &header,
            entries.into_iter(),
        );
        let batch = Batch::new(GFP_KERNEL).map_err(|error| format!("{error:?}"))?;
        let mut live = Self {
            device,
            block,
            checkpoint,
            batch,
            unflushed: BTreeMap::new(),
            written,
        };
        // What the module does when the table goes live: the sectors behind the log are not in sight.
        live.write_log();
        for sector in 1..block.sectors() as usize {
            live.put(sector, ZEROES);
        }
        Ok(live)
    }

    /// Checks that nothing is free that the file system has written to since the checkpoint.
    fn frees_nothing_written(&self, recording: &Recording, cut: Time) -> Result<(), String> {
        let ranges = self.checkpoint.ranges();
        let mut position = 0;
        while position < self.device.sectors.len() as u64 {
            let run = ranges.run_at(position);
            let end = run.end.min(self.device.sectors.len() as u64);
            if run.kind == Some(Kind::Free) {
                for sector in position..end {
                    if is_written(recording, sector as usize, cut) {
                        return Err(format!("sector {sector} was written, and is free"));
                    }
                }
            }
            position = end;
        }
        Ok(())
    }

    /// Does some writes, until power fails. Returns how many were carried out.
    fn live(&mut self, random: &mut Random) -> usize {
        let mut writes = 0;
        for _ in 0..1 + random.index(8) {
            let mut spans = Vec::new();
            for _ in 0..1 + random.index(TOGETHER_MAX) {
                spans.extend(self.draw(random));
            }
            let Some(written) = self.write(&spans, random) else {
                return writes;
            };
            writes += written;
            if random.once_in(3) {
                self.unflushed.clear();
            }
        }
        self.cut_power(random);
        writes
    }

    /// Draws a write outside the first block.
    fn draw(&self, random: &mut Random) -> Option<Range<u64>> {
        let sectors = self.device.sectors.len() as u64;
        let start = random.below(sectors).max(self.block.sectors());
        let end = (start + 1 + random.below(40)).min(sectors);
        (start < end).then_some(start..end)
    }

    /// Carries out writes that come together. Returns how many were; [`None`] if power fails.
    fn write(&mut self, spans: &[Range<u64>], random: &mut Random) -> Option<usize> {
        let mut waiting = spans.to_vec();
        let mut written = 0;
        for _ in 0..20 {
            self.checkpoint.open(&mut self.batch, waiting.len());
            let mut ready = Vec::new();
            waiting.retain(
                |span| match self.checkpoint.prepare(span, Some(&mut self.batch)) {
                    Verdict::Writable => {
                        ready.push(span.clone());
                        false
                    }
                    Verdict::Joined | Verdict::Later => true,
                    Verdict::NoSpace => false,
                },
            );
            self.checkpoint.close();
            for span in ready {
                for sector in span {
                    let id = self.device.new_content();
                    let old = self.device.sectors[sector as usize];
                    self.unflushed.entry(sector as usize).or_insert(old);
                    self.device.sectors[sector as usize] = id;
                    self.written.insert(sector as usize, id);
                }
                written += 1;
            }
            if waiting.is_empty() && self.batch.entries() == 0 {
                break;
            }
            if !self.run_batch(random) {
                return None;
            }
        }
        Some(written)
    }

    /// Carries out the batch, as the module does. Returns whether power is still there.
    fn run_batch(&mut self, random: &mut Random) -> bool {
        let cut = random.once_in(12);
        let before_log = cut && random.once_in(2);
        let mut moves = Vec::new();
        for copy in self.batch.copies_mut() {
            let there = copy.source_bytes(self.device.sectors.len() as u64) as usize / SECTOR;
            let source = copy.source as usize;
            let mut ids = self.device.sectors[source..source + there].to_vec();
            ids.resize(copy.sectors as usize, ZEROES);
            let seed = entry_seed(copy.source, self.block.bytes());
            copy.checksum = (0..ids.len()).fold(seed, |crc, at| match at < there {
                true => crc32(crc, self.device.sector(source + at)),
                false => crc32(crc, &[0; SECTOR]),
            });
            moves.push((copy.dest as usize, ids));
        }
        for (dest, ids) in moves {
            for (sector, id) in (dest..).zip(ids) {
                if !before_log || random.once_in(2) {
                    self.put(sector, id);
                }
            }
        }
        if before_log {
            self.cut_power(random);
            return false;
        }
        let mut full: Vec<Sector> = Vec::new();
        let appended = self
            .checkpoint
            .append(
                &self.batch,
                |_| false,
                crc32,
                |_, sector| full.push(*sector),
            )
            .expect("there is room for the entries");
        for (&place, sector) in appended.full_blocks().iter().zip(&full) {
            let mut block = sector.to_vec();
            block.resize(self.block.bytes() as usize, 0);
            self.put_bytes(place, &block);
        }
        if appended.entries() > 0 {
            self.write_log();
        }
        if cut {
            self.cut_power(random);
            return false;
        }
        self.checkpoint
            .complete(&self.batch, &appended, |_| None, |_| ());
        self.checkpoint.finish(&mut self.batch);
        self.checkpoint.replenish(GFP_KERNEL);
        true
    }

    fn write_log(&mut self) {
        let mut log: Sector = [0; SECTOR];
        self.checkpoint.log().encode(&mut log, crc32);
        self.put_bytes(0, &log);
    }

    /// Writes durably.
    fn put(&mut self, sector: usize, id: Id) {
        self.device.sectors[sector] = id;
        self.unflushed.remove(&sector);
    }

    /// Writes bytes durably.
    fn put_bytes(&mut self, sector: u64, bytes: &[u8]) {
        self.device
            .write_at(sector, bytes)
            .expect("the decisions stay on the device");
        for at in 0..bytes.len() / SECTOR {
            self.unflushed.remove(&(sector as usize + at));
        }
    }

    /// Has power fail: some of what was not flushed is lost.
    fn cut_power(&mut self, random: &mut Random) {
        for (sector, old) in std::mem::take(&mut self.unflushed) {
            if random.once_in(2) {
                self.device.sectors[sector] = old;
                self.written.insert(sector, old);
            }
        }
    }
}

/// Returns whether a write of the file system's has reached `sector` of the device since the checkpoint and before
/// `cut`. What dm-bow has written there itself does not count.
fn is_written(recording: &Recording, sector: usize, cut: Time) -> bool {
    let range = recording.taken.start..cut;
    let below = recording.lower.versions(sector as u32);
    below
        .iter()
        .filter(|version| range.contains(&version.start))
        .filter(|version| ![ZEROES, GARBAGE, recording.image[sector]].contains(&version.id))
        .any(|version| recording.is_written(sector, version.id, cut))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
