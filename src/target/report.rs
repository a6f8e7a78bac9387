// SPDX-License-Identifier: GPL-2.0

//! What users see and say: status and table lines, the files in sysfs, messages; and with them the
//! target's [`Target`] implementation.
//!
//! What the worker knows is copied to a [`Report`] whenever it has run, so that nobody who asks has
//! to wait for it.

use super::{
    change::Source,
    map::BioData,
    worker::Change,
    Bow,
    Tracker, //
};
use crate::{
    abstractions::{
        bio::Bio,
        device_mapper::{
            Limits,
            LiveTable,
            NewTable,
            Refusal,
            Target,
            Words, //
        },
        queue::NoIo,
        sysfs::{
            Attribute,
            Attributes,
            Directory, //
        },
    },
    decisions::{
        checkpoint::Checkpoint,
        log::SECTOR_SIZE,
        ranges::Kind,
        state::State, //
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};

/// What there is to know about a device, but for its record of free space in state 0.
#[derive(Clone, Copy)]
pub(super) struct Report {
    /// The state.
    pub(super) state: State,
    /// Sectors that backups may take.
    free: u64,
    /// Sectors that need no backup any more.
    changed: u64,
    /// Sectors of backups and full log blocks.
    backup: u64,
    /// Sequence number of the log block.
    sequence: u32,
    /// Entries in it.
    entries: u32,
    /// Sectors of backups that were moved out of the way.
    moved: u64,
    /// Ranges in the tree.
    ranges: usize,
    full: bool,
    failed: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            state: State::Tracking,
            free: 0,
            changed: 0,
            backup: 0,
            sequence: 0,
            entries: 0,
            moved: 0,
            ranges: 0,
            full: false,
            failed: false,
        }
    }
}

impl Report {
    pub(super) fn of_checkpoint(checkpoint: &Checkpoint, full: bool, failed: bool) -> Self {
        let ranges = checkpoint.ranges();
        Self {
            state: State::Checkpoint,
            free: checkpoint.free_sectors(),
            changed: ranges.total(Kind::Changed),
            backup: ranges.total(Kind::Backup),
            sequence: checkpoint.log().sequence(),
            entries: checkpoint.log().count(),
            moved: checkpoint.moved_sectors(),
            ranges: ranges.len(),
            full,
            failed,
        }
    }

    /// In state 2 there is nothing left to report.
    pub(super) fn of_committed() -> Self {
        Self {
            state: State::Committed,
            ..Self::default()
        }
    }

    fn word(&self) -> &'static str {
        match (self.failed, self.full) {
            (true, _) => "failed",
            (false, true) => "full",
            (false, false) => "ok",
        }
    }
}

impl Bow {
    /// What there is to know now.
    pub(super) fn look(&self) -> Report {
        // In this order: once the record is gone the report has its figures.
        let figures = self.tracker.lock().as_ref().map(Tracker::figures);
        let mut report = *self.report.lock();
        if let (Some((free, ranges)), State::Tracking) = (figures, report.state) {
            report.free = free;
            report.ranges = ranges;
        }
        report
    }

    fn unknown_state(&self, source: &str) -> Error {
        pr_err!(
            "{}: {} accepted (state is {})\n",
            self.device.name(),
            source,
            self.state().number()
        );
        EINVAL
    }
}

#[vtable]
impl Target for Bow {
    const NAME: &'static CStr = c"bow";
    const VERSION: [u32; 3] = [1, 0, 0];
    type BioData = BioData;

    fn create(
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<impl PinInit<Self, Error>, Refusal> {
        Bow::create(table, arguments)
    }

    fn reload(
        &self,
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<(), Refusal> {
        Bow::reload(self, table, arguments)
    }

    fn destroy(&self) {
        drop(self.directory.lock().take());
        self.queue.flush();
    }

    #[inline]
    fn map(this: ArcBorrow<'_, Self>, bio: Bio<Self>) -> Option<Bio<Self>> {
        Bow::map_bio(this, bio)
    }

    #[inline]
    fn end_io(this: ArcBorrow<'_, Self>, data: BioData) {
        Bow::bio_ended(this, data);
    }

    fn resume(this: &Arc<Self>, table: &LiveTable<'_>) {
        *this.requests.lock() = true;
        this.events.attach(table);
        // I/O of the device waits until this returns, so memory must not wait for it.
        let _noio = NoIo::enter();
        let mut directory = this.directory.lock();
        if directory.is_none() {
            match Directory::new(this.clone(), table) {
                Ok(new) => *directory = Some(new),
                Err(error) => pr_err!(
                    "{}: no directory in sysfs: error {}; use dmsetup message\n",
                    this.device.name(),
                    error.to_errno()
                ),
            }
        }
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.device.number() == other.device.number()
    }

    fn suspended(this: &Arc<Self>) {
        // The next table that goes live may be of another target. Messages hold that up, sysfs does
        // not: so what it has asked for ends before, and it asks for nothing more.
        let mut is_live = this.requests.lock();
        *is_live = false;
        // Nor does device mapper know of a batch that nobody waits for any more.
        let _ = this.request(&is_live, Change::None);
        drop(is_live);
        this.events.detach();
    }

    fn status(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let report = self.look();
        write!(
            out,
            "{} {} {} {} {} {} {} {} {} {}",
            report.state.number(),
            self.block.bytes(),
            report.free,
            report.changed,
            report.backup,
            report.sequence,
            report.entries,
            report.moved,
            report.ranges,
            report.word()
        )
    }

    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(
            out,
            "{} 2 block_size:{} on_full:{}",
            self.device.name(),
            self.block.bytes(),
            self.on_full.word()
        )
    }

    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let [major, minor, patch] = Self::VERSION;
        write!(
            out,
            "target_name={},target_version={major}.{minor}.{patch},device_name={},block_size={},\
             on_full={},state={};",
            <Self as Target>::NAME.to_str().unwrap_or_default(),
            self.device.name(),
            self.block.bytes(),
            self.on_full.word(),
            self.state().number()
        )
    }

    fn message(this: ArcBorrow<'_, Self>, mut words: Words<'_>) -> Result {
        let state = words
            .next()
            .and_then(|word| State::from_message(word.to_bytes()))
            .filter(|_| words.next().is_none());
        match state {
            Some(state) => Arc::from(this).change_state(state, Source::Message),
            None => Err(this.unknown_state("only the messages `checkpoint` and `commit` are")),
        }
    }

    fn is_ioctl_dangerous(&self) -> bool {
        self.state() != State::Committed
    }

    fn io_hints(&self, limits: &mut Limits<'_>) {
        // The record of free space is in sectors, so any discard that can be sent is welcome.
        limits.allow_discards(limits.logical_block_size());
    }
}

/// Numbers of the files in sysfs.
const STATE: usize = 0;
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
            FREE => writeln!(out, "{}", self.look().free * SECTOR_SIZE as u64)?,
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
