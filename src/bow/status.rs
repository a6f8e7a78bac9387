// SPDX-License-Identifier: GPL-2.0

//! Status, table and measurement lines, and the files in sysfs.
//!
//! The worker copies what it knows to a [`Report`] whenever it has run, so that nobody who reads the status
//! has to wait for the worker.

use super::{
    change::Source,
    tracking::Tracker,
    Bow, //
};
use crate::{
    abstractions::{
        dm::target::Target,
        sysfs::{
            Attribute,
            Attributes, //
        },
    },
    decisions::{
        checkpoint::Checkpoint,
        log::SECTOR_SIZE,
        low_water::LowWater,
        ranges::Kind,
        state::State, //
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        atomic::ordering::Relaxed,
        Arc, //
    },
};

/// Figures of a device, except those of its record of free space in state 0.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// State of the device.
    pub(super) state: State,
    /// Number of sectors that backups may still take.
    free: u64,
    /// Number of writable sectors.
    writable: u64,
    /// Number of sectors of backups and full log blocks.
    backup: u64,
    /// Sequence number of the log block.
    sequence: u32,
    /// Number of entries in the log block.
    entries: u32,
    /// Number of sectors of backups that were moved, since the file system wrote to their place.
    moved: u64,
    /// Number of ranges in the range tree.
    ranges: usize,
    /// Set when a write has found no free space, until discarded space is free again.
    full: bool,
    /// Set when a log write or a commit has failed.
    failed: bool,
    /// Number of sectors that were free at the checkpoint.
    free_at_first: u64,
    /// Low-water mark in sectors, once the report is [looked at](Bow::look).
    low_water: u64,
}

impl Report {
    /// Returns the figures of a checkpoint.
    pub(super) fn of_checkpoint(checkpoint: &Checkpoint, full: bool, failed: bool) -> Self {
        let ranges = checkpoint.ranges();
        Self {
            state: State::Checkpoint,
            free: checkpoint.free_sectors(),
            writable: ranges.total(Kind::Writable),
            backup: ranges.total(Kind::Backup),
            sequence: checkpoint.log().sequence(),
            entries: checkpoint.log().count(),
            moved: checkpoint.moved_sectors(),
            ranges: ranges.len(),
            full,
            failed,
            free_at_first: checkpoint.free_at_first(),
            low_water: 0,
        }
    }

    /// Returns the report of a device in `state`, of which all figures are 0.
    pub(super) fn of_state(state: State) -> Self {
        Self {
            state,
            free: 0,
            writable: 0,
            backup: 0,
            sequence: 0,
            entries: 0,
            moved: 0,
            ranges: 0,
            full: false,
            failed: false,
            free_at_first: 0,
            low_water: 0,
        }
    }

    /// Returns the last word of the status line.
    pub(super) fn word(&self) -> &'static str {
        if self.failed {
            "failed"
        } else if self.full {
            "full"
        } else if self.is_low() {
            "low"
        } else {
            "ok"
        }
    }

    /// Returns whether the free space of a checkpoint is below the low-water mark.
    pub(super) fn is_low(&self) -> bool {
        self.state == State::Checkpoint && self.free < self.low_water
    }

    /// Returns the number of free bytes.
    pub(super) fn free_bytes(&self) -> u64 {
        self.free.saturating_mul(SECTOR_SIZE as u64)
    }
}

impl Bow {
    /// Returns the current figures. Does not sleep.
    pub(super) fn look(&self) -> Report {
        // The record is looked at first: once it is gone, the report has its figures.
        let figures = self.tracker.lock().as_ref().map(Tracker::figures);
        let mut report = *self.report.lock();
        if let (Some((free, ranges)), State::Tracking) = (figures, report.state) {
            report.free = free;
            report.ranges = ranges;
        }
        // What is granted and not written yet can be taken back.
        let granted = self
            .granted
            .load(Relaxed)
            .saturating_mul(self.block.sectors());
        report.free = report.free.saturating_add(granted);
        report.writable = report.writable.saturating_sub(granted);
        report.low_water = self.low_water().sectors(report.free_at_first);
        report
    }

    /// Logs that a request names no state, and which are accepted. Returns `EINVAL`.
    pub(super) fn unknown_state(&self, source: &str) -> Error {
        pr_err!(
            "{}: {} accepted (state is {})\n",
            self.device.name(),
            source,
            self.state().number()
        );
        EINVAL
    }
}

impl Bow {
    /// Writes the status line. Does not sleep.
    pub(super) fn write_status(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let report = self.look();
        write!(
            out,
            "{} {} {} {} {} {} {} {} {} {}",
            report.state.number(),
            self.block.bytes(),
            report.free,
            report.writable,
            report.backup,
            report.sequence,
            report.entries,
            report.moved,
            report.ranges,
            report.word()
        )
    }

    /// Writes the arguments of the table line.
    pub(super) fn write_table(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let mark = self.low_water();
        let has_mark = mark != LowWater::NONE;
        write!(
            out,
            "{} {} block_size:{} on_full:{}",
            self.device.name(),
            2 + u32::from(has_mark) + u32::from(self.no_discard_passdown),
            self.block.bytes(),
            self.on_full().word()
        )?;
        if has_mark {
            write!(out, " low_water:{mark}")?;
        }
        if self.no_discard_passdown {
            out.write_str(" no_discard_passdown")?;
        }
        Ok(())
    }

    /// Writes the line that the integrity measurement architecture records.
    pub(super) fn write_measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let [major, minor, patch] = Self::VERSION;
        write!(
            out,
            "target_name={},target_version={major}.{minor}.{patch},device_name={},block_size={},\
             on_full={},low_water={},no_discard_passdown={},state={};",
            <Self as Target>::NAME.to_str().unwrap_or_default(),
            self.device.name(),
            self.block.bytes(),
            self.on_full().word(),
            self.low_water(),
            if self.no_discard_passdown { 'y' } else { 'n' },
            self.state().number()
        )
    }
}

/// Index of the file `state` in [`Attributes::ATTRIBUTES`].
const STATE: usize = 0;
/// Index of the file `free`.
const FREE: usize = 1;

impl Attributes for Bow {
    const NAME: &'static CStr = c"bow";

    const ATTRIBUTES: &'static [Attribute] = &[
        Attribute {
            name: c"state",
            writable: true,
        },
        Attribute {
            name: c"free",
            writable: false,
        },
    ];

    fn show(&self, index: usize, out: &mut dyn fmt::Write) -> Result {
        match index {
            STATE => writeln!(out, "{}", self.state().number())?,
            FREE => writeln!(out, "{}", self.look().free_bytes())?,
            _ => return Err(ENOENT),
        }
        Ok(())
    }

    fn store(this: &Arc<Self>, index: usize, text: &[u8]) -> Result {
        if index != STATE {
            return Err(EPERM);
        }
        match State::from_text(text) {
            Some(state) => this.change_state(state, Source::Sysfs),
            None => Err(this.unknown_state("only the states 0, 1 and 2 are")),
        }
    }
}
