// SPDX-License-Identifier: GPL-2.0

//! A device with a checkpoint, sector by sector: what the log says that each holds.
//!
//! The rules are those by which the kernel module resumes a checkpoint
//! ([`bow_decisions::resume`]): the newest entry that names a sector decides, and of sectors that no
//! entry names the free map and the grants say more. Unlike there, logs of all versions are
//! surveyed, and the log and the two kinds of writable sectors are told apart. Without a free map
//! (before version 1.2) it is not known what was free.

use std::collections::BTreeMap;
use std::ops::Range;

use bow_decisions::block_size::BlockSize;
use bow_decisions::log::{Entry, Header};

use crate::device::BlockDevice;
use crate::progress::Progress;
use crate::recovery::carry_out::read;
use crate::recovery::leftovers::{free_extents, FreeSpace, Record, RecordError};
use crate::recovery::sector_set::SectorSet;
use crate::recovery::{self, CheckOptions, Checked, Finding, RecoveryError};

/// Kind of a sector.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Not free at the checkpoint, and not written since.
    Unchanged,
    /// Not free at the checkpoint and backed up since: it has been written, or a neighbour has.
    Changed,
    /// Free at the checkpoint, and still there for backups.
    Free,
    /// Free at the checkpoint and handed to the file system since, which may have written to it.
    Granted,
    /// Holds a backup.
    Backup,
    /// Holds a log block, a block of the free map, or the relocated first block.
    Log,
    /// Named by no entry of a log that has no free map: unchanged, or free, or written to since.
    Unknown,
}

impl Kind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 7] = [
        Self::Unchanged,
        Self::Changed,
        Self::Free,
        Self::Granted,
        Self::Backup,
        Self::Log,
        Self::Unknown,
    ];

    /// Returns the word for the kind: an interface of `--json`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Free => "free",
            Self::Granted => "granted",
            Self::Backup => "backup",
            Self::Log => "log",
            Self::Unknown => "unknown",
        }
    }
}

/// Run of sectors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The sectors.
    pub sectors: Range<u64>,
    /// Their kind.
    pub kind: Kind,
}

/// A device that has been surveyed.
pub struct Survey {
    /// The log.
    pub log: Checked,
    /// Runs of sectors that cover the device, each as long as it can be.
    pub extents: Vec<Extent>,
    /// Set if the log has a free map that could be read.
    pub has_map: bool,
    /// Reason why the free map could not be read, if there is one.
    pub map_error: Option<String>,
}

impl Survey {
    /// Surveys a device. Saved data is not read.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the log, or the device's.
    pub fn new<D: BlockDevice>(device: &D) -> Result<Self, RecoveryError> {
        let mut found = Found::default();
        let progress = &mut Progress::hidden();
        let log = recovery::check(device, CheckOptions::LOG_ONLY, progress, |finding| {
            found.add(finding);
        })?;
        let (space, map_error) = match &log.record {
            Record::Good(space) => (Some(space), None),
            Record::Damaged(RecordError::Map(error)) => (None, Some(error.to_string())),
            Record::Damaged(RecordError::Read(error)) => (None, Some(error.to_string())),
            Record::None => (None, None),
        };
        let claims = found.claims(&log.header, space);

        Ok(Self {
            extents: extents(&claims, space, device.sectors()),
            has_map: space.is_some(),
            map_error,
            log,
        })
    }

    /// Returns the number of sectors of a kind.
    pub fn total(&self, kind: Kind) -> u64 {
        self.of(kind).map(|span| span.end - span.start).sum()
    }

    /// Returns the runs of sectors of a kind, in ascending order.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Range<u64>> {
        self.extents
            .iter()
            .filter(move |extent| extent.kind == kind)
            .map(|extent| &extent.sectors)
    }
}

/// Returns the number of sectors that were free at the checkpoint, if there is a free map, and it is
/// where it was written at first. Does not read the log.
pub fn free_at_checkpoint<D: BlockDevice>(device: &D, header: &Header) -> Option<u64> {
    let free = free_extents(
        header.free_map?,
        BlockSize::of(header),
        device.sectors(),
        |sector, bytes| read(device, sector, bytes),
    );

    free.ok().map(|free| free.sectors())
}

/// Log blocks and entries of a log, newest first.
#[derive(Default)]
struct Found {
    /// First sectors of the log blocks.
    blocks: Vec<u64>,
    entries: Vec<Entry>,
}

impl Found {
    fn add(&mut self, finding: &Finding) {
        match *finding {
            Finding::Block { sector, .. } => self.blocks.push(sector),
            Finding::Entry { entry, .. } if entry.size > 0 => self.entries.push(entry),
            Finding::Entry { .. } | Finding::Read { .. } | Finding::Valid(_) => {}
        }
    }

    /// Returns the kinds of the sectors that something names.
    fn claims(&self, newest: &Header, space: Option<&FreeSpace>) -> Ranges<Kind> {
        let mut claims = Ranges::default();
        let block = BlockSize::of(newest);
        let first = newest.sector0;

        for place in self.blocks.iter().chain([&first]) {
            claims.claim(*place..place.saturating_add(block.sectors()), Kind::Log);
        }
        for place in space.map_or(&[][..], |space| space.map.spans()) {
            claims.claim(place.clone(), Kind::Log);
        }
        let were_free = match space {
            Some(space) => Ranges::from(&space.free),
            None => self.places(first, block),
        };
        for entry in &self.entries {
            claims.claim(dest(entry), Kind::Backup);
            for (span, claimed) in claims.parts(source(entry)) {
                if claimed.is_some() {
                    continue;
                }
                for (span, was_free) in were_free.parts(span) {
                    let kind = was_free.map_or(Kind::Changed, |()| Kind::Granted);

                    claims.claim(span, kind);
                }
            }
        }
        claims
    }

    /// Returns all places that the log has ever named: without a free map, these are all that is
    /// known to have been free. `first` is the relocated first block.
    fn places(&self, mut first: u64, block: BlockSize) -> Ranges<()> {
        let mut places = Ranges::default();

        places.claim(first..first.saturating_add(block.sectors()), ());
        for entry in &self.entries {
            places.claim(dest(entry), ());
            // Where the relocated first block was moved from is no entry's dest at first.
            if entry.dest == first {
                first = entry.source;
                places.claim(source(entry), ());
            }
        }
        places
    }
}

/// Returns the sectors that an entry's data is saved at.
fn dest(entry: &Entry) -> Range<u64> {
    entry.dest..entry.dest.saturating_add(sectors(entry))
}

/// Returns the sectors that an entry's data belongs at.
fn source(entry: &Entry) -> Range<u64> {
    entry.source..entry.source.saturating_add(sectors(entry))
}

fn sectors(entry: &Entry) -> u64 {
    bow_decisions::check::sectors(entry.size)
}

/// Returns runs that cover a device of `sectors` sectors.
fn extents(claims: &Ranges<Kind>, space: Option<&FreeSpace>, sectors: u64) -> Vec<Extent> {
    let mut extents = Vec::new();
    let sets = space.map(|space| (Ranges::from(&space.free), Ranges::from(&space.granted)));

    for (span, claimed) in claims.parts(0..sectors) {
        match (claimed, &sets) {
            (Some(kind), _) => push(&mut extents, span, kind),
            (None, None) => push(&mut extents, span, Kind::Unknown),
            (None, Some((free, granted))) => {
                for (span, free) in free.parts(span) {
                    if free.is_none() {
                        push(&mut extents, span, Kind::Unchanged);
                        continue;
                    }
                    for (span, granted) in granted.parts(span) {
                        let kind = granted.map_or(Kind::Free, |()| Kind::Granted);

                        push(&mut extents, span, kind);
                    }
                }
            }
        }
    }
    extents
}

/// Adds a run that begins where the last one ends.
fn push(extents: &mut Vec<Extent>, sectors: Range<u64>, kind: Kind) {
    match extents.last_mut() {
        Some(last) if last.kind == kind => last.sectors.end = sectors.end,
        _ => extents.push(Extent { sectors, kind }),
    }
}

/// Ranges that do not overlap, each with a value.
#[derive(Debug)]
struct Ranges<K> {
    /// End and value of each range, by its start.
    map: BTreeMap<u64, (u64, K)>,
}

impl<K> Default for Ranges<K> {
    fn default() -> Self {
        Self {
            map: BTreeMap::new(),
        }
    }
}

impl From<&SectorSet> for Ranges<()> {
    fn from(set: &SectorSet) -> Self {
        let spans = set.spans().iter();

        Self {
            map: spans.map(|span| (span.start, (span.end, ()))).collect(),
        }
    }
}

impl<K: Copy> Ranges<K> {
    /// Gives a value to what of `span` has none.
    fn claim(&mut self, span: Range<u64>, value: K) {
        for (part, claimed) in self.parts(span) {
            if claimed.is_none() {
                self.map.insert(part.start, (part.end, value));
            }
        }
    }

    /// Splits `span` by the ranges in it. Parts in no range have no value.
    fn parts(&self, span: Range<u64>) -> Vec<(Range<u64>, Option<K>)> {
        let mut parts = Vec::new();
        let mut position = span.start;
        let first = self
            .map
            .range(..=span.start)
            .next_back()
            .map_or(span.start, |(start, _)| *start);

        // An empty span could end before the range that it is in begins.
        if span.is_empty() {
            return parts;
        }
        for (&start, &(end, value)) in self.map.range(first..span.end) {
            if end <= position {
                continue;
            }
            if position < start {
                parts.push((position..start, None));
            }
            let end = end.min(span.end);
            parts.push((position.max(start)..end, Some(value)));
            position = end;
        }
        if position < span.end {
            parts.push((position..span.end, None));
        }
        parts
    }
}
