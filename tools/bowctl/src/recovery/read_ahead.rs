// SPDX-License-Identifier: GPL-2.0

//! Reading what a check will want, before it does.
//!
//! A log block says at once where the data of its entries is, so that these reads can be large and
//! several at a time. Nothing depends on that being right: what was not foreseen, since an entry between
//! says that it was moved, is read when it is asked for.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use bow_decisions::check::{sectors, Check, READ_MAX};
use bow_decisions::log::{Header, SECTOR_SIZE};

use super::carry_out::read;
use super::error::RecoveryError;
use crate::device::buffer::Buffer;
use crate::device::BlockDevice;

/// The most sectors that are read at once.
const READ_SECTORS: u64 = (READ_MAX / SECTOR_SIZE) as u64;

/// The most reads that are foreseen at a time, which bounds the memory for a log of very large or
/// scattered entries. When they are done, more are.
const FORESEEN_MAX: usize = 1024;

/// Place of a check in a log block.
#[derive(Debug)]
pub(super) struct Place {
    header: Header,
    block: Vec<u8>,
    /// Entries that are still to be checked.
    entries: u32,
    /// Sectors of the last of these that have been checked.
    sectors: u64,
}

impl Place {
    /// Begins with the last entry of `block`.
    pub(super) fn new(header: Header, block: Vec<u8>) -> Self {
        Self {
            entries: header.count,
            sectors: 0,
            header,
            block,
        }
    }

    /// Goes on to the entry before `index`.
    pub(super) fn checked_entry(&mut self, index: u32) {
        self.entries = index;
        self.sectors = 0;
    }

    /// Goes on behind `len` bytes of an entry.
    pub(super) fn checked_data(&mut self, len: usize) {
        self.sectors += (len / SECTOR_SIZE) as u64;
    }

    /// Returns whether the next read is of an entry's data, and not of the next log block.
    pub(super) fn is_in_entry(&self) -> bool {
        self.entries > 0
    }

    /// Returns the bytes that the entries hold.
    pub(super) fn bytes(&self) -> u64 {
        let sizes = self.header.entries(&self.block);

        sizes.map(|entry| u64::from(entry.size)).sum()
    }

    /// Returns the runs of sectors that `check` will want of a device of `device` sectors, in order.
    fn foresee(&self, check: &Check, device: u64) -> VecDeque<Range<u64>> {
        let mut runs = VecDeque::new();
        let mut skip = self.sectors;

        for index in (0..self.entries).rev() {
            let entry = self.header.entry(&self.block, index).unwrap_or_default();
            let mut done = std::mem::take(&mut skip);

            while entry.checksum != 0 && done < sectors(entry.size) {
                let left = (sectors(entry.size) - done).min(READ_SECTORS);
                let piece = check.restored(entry.dest.saturating_add(done), left);
                let run = piece.data..piece.data.saturating_add(piece.sectors);

                // The check will find what is wrong with the entry.
                if run.is_empty() || run.end > device || runs.len() == FORESEEN_MAX {
                    return runs;
                }
                done += piece.sectors;
                add(&mut runs, run);
            }
        }
        runs
    }
}

/// Adds a run, to the last one if it is next to it.
fn add(runs: &mut VecDeque<Range<u64>>, run: Range<u64>) {
    if let Some(last) = runs.back_mut() {
        let sectors = (last.end - last.start) + (run.end - run.start);

        if sectors <= READ_SECTORS && run.end == last.start {
            last.start = run.start;
            return;
        }
        if sectors <= READ_SECTORS && run.start == last.end {
            last.end = run.end;
            return;
        }
    }
    runs.push_back(run);
}

/// Reads of a check.
pub(super) struct ReadAhead<'a, D> {
    device: &'a D,
    /// Runs of sectors that `data` will yield.
    foreseen: VecDeque<Range<u64>>,
    data: Box<dyn Iterator<Item = io::Result<Buffer>> + 'a>,
    /// Run that it has yielded last.
    at_hand: Option<(Range<u64>, Buffer)>,
    /// Data that was not foreseen.
    other: Vec<u8>,
}

impl<'a, D: BlockDevice> ReadAhead<'a, D> {
    /// Begins with nothing.
    pub(super) fn new(device: &'a D) -> Self {
        Self {
            device,
            foreseen: VecDeque::new(),
            data: Box::new(std::iter::empty()),
            at_hand: None,
            other: Vec::new(),
        }
    }

    /// Returns `len` bytes from `sector` on, which `check` wants at `place`.
    ///
    /// # Errors
    ///
    /// The device's.
    pub(super) fn read(
        &mut self,
        sector: u64,
        len: usize,
        check: &Check,
        place: &Place,
    ) -> Result<&[u8], RecoveryError> {
        let wanted = sector..sector + (len / SECTOR_SIZE) as u64;
        let within = |run: &Range<u64>| run.start <= wanted.start && wanted.end <= run.end;
        let is_at_hand = |at_hand: &Option<(Range<u64>, Buffer)>| {
            at_hand.as_ref().is_some_and(|(run, _)| within(run))
        };

        if !is_at_hand(&self.at_hand) && self.foreseen.is_empty() && place.is_in_entry() {
            self.foreseen = place.foresee(check, self.device.sectors());
            self.data = Box::new(
                self.device
                    .read_all(self.foreseen.iter().cloned().collect()),
            );
        }
        // Runs that were foreseen and are not wanted are passed over when a later one is.
        while !is_at_hand(&self.at_hand) && self.foreseen.iter().any(within) {
            self.at_hand = None;
            if let (Some(run), Some(data)) = (self.foreseen.pop_front(), self.data.next()) {
                // If it failed, what is wanted of it may be good; else the error is of that alone.
                if within(&run) {
                    self.at_hand = data.ok().map(|data| (run, data));
                }
            }
        }
        match &self.at_hand {
            Some((run, data)) if within(run) => {
                let at = (wanted.start - run.start) as usize * SECTOR_SIZE;

                Ok(&data[at..at + len])
            }
            _ => {
                self.other.resize(len, 0);
                read(self.device, sector, &mut self.other)?;
                Ok(&self.other)
            }
        }
    }
}
