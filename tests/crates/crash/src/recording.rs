// SPDX-License-Identifier: GPL-2.0

//! A recording: all that a workload sent to a bow device, and all that bow sent down.

use crate::contents::{Contents, Id, GARBAGE, ZEROES};
use crate::files::Files;
use crate::log_writes;
use crate::reach::Reach;
use crate::timeline::{Level, Side};
use crate::trace::{self, Time, NEVER};
use bow_decisions::log;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

/// One write that decides between two states.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    /// It began with this event.
    pub(crate) start: Time,
    /// It is there for certain when power fails after this event.
    pub(crate) durable: Time,
    /// The change was reported as done by this event.
    pub(crate) reported: Time,
}

/// A recording of one device.
pub(crate) struct Recording {
    pub(crate) name: String,
    pub(crate) contents: Contents,
    /// Size of the device in sectors.
    pub(crate) sectors: u64,
    /// Bios that reached bow.
    pub(crate) upper: Level,
    /// Bios that bow sent down.
    pub(crate) lower: Level,
    /// 0 → 1.
    pub(crate) taken: Decision,
    /// 1 → 2, if it came to that.
    pub(crate) given_up: Option<Decision>,
    /// Contents of each sector at the checkpoint.
    pub(crate) image: Vec<Id>,
    /// Every content that was on the device at the checkpoint, or that nobody wrote.
    old: HashSet<Id>,
    /// True for a sector that a rollback has to give back: it was not free at the checkpoint.
    pub(crate) is_kept: Vec<bool>,
    /// Fate of the files of a file system, if there is one.
    pub(crate) files: Option<Files>,
    /// The file system.
    pub(crate) fs: String,
    /// Extent of the log.
    pub(crate) reach: Reach,
    /// Extent that the workload wants.
    pub(crate) at_least: String,
    /// Power is cut from this event on.
    pub(crate) from: Time,
    pub(crate) events: Time,
}

impl Recording {
    /// Loads the recording in folder `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, String> {
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let meta = String::from_utf8_lossy(&read("meta")?).into_owned();
        let meta: HashMap<_, _> = meta
            .lines()
            .filter_map(|line| line.split_once(' '))
            .collect();
        let field = |name: &str| {
            meta.get(name)
                .copied()
                .ok_or_else(|| format!("{}: meta has no {name}", dir.display()))
        };
        let number = |name: &str| {
            field(name)?
                .parse::<u64>()
                .map_err(|error| format!("{name}: {error}"))
        };
        let sectors = number("sectors")?;
        let mut trace = trace::parse(&String::from_utf8_lossy(&read("trace")?))?;

        let mut contents = Contents::new();
        let mut join = |name: &str, device: &str, side| -> Result<Level, String> {
            let numbers = number(device)?;
            let numbers = ((numbers >> 20) as u32, (numbers & 0xf_ffff) as u32);
            let bios = trace.bios.remove(&numbers).unwrap_or_default();
            let log = read(name)?;
            let entries = log_writes::parse(&log).map_err(|error| format!("{name}: {error}"))?;
            Level::join(&entries, bios, side, sectors, &mut contents)
                .map_err(|error| format!("{name}: {error}"))
        };
        let lower = join("lower", "late", Side::Below)?;
        let upper = join("upper", "bow", Side::Above)?;

        let reported = |mark: &str| {
            let found = trace.marks.iter().find(|(_, text)| text == mark);
            found.map_or(NEVER, |(time, _)| *time)
        };
        let (taken, given_up) = decisions(&lower, &contents);
        let mut taken = taken.ok_or("no checkpoint was taken")?;
        taken.reported = reported("state 1");
        let given_up = given_up.map(|decision| Decision {
            reported: reported("state 2"),
            ..decision
        });
        let from = [reported("sweep"), reported("asked 1"), taken.start];
        let fs = field("fs")?.to_owned();
        let reach = Reach::new(&lower, &contents, sectors, given_up.is_some());
        let mut recording = Self {
            name: field("name")?.to_owned(),
            sectors,
            taken,
            given_up,
            image: Vec::new(),
            old: HashSet::from([ZEROES, GARBAGE]),
            is_kept: Vec::new(),
            files: (fs != "none").then(|| Files::new(&trace.marks)),
            fs,
            reach,
            at_least: field("at_least").unwrap_or_default().to_owned(),
            from: from.into_iter().min().unwrap_or(0),
            events: trace.events,
            contents,
            upper,
            lower,
        };
        recording.find_image()?;
        Ok(recording)
    }

    /// Finds what the device held at the checkpoint: all that bow had sent down before the write
    /// that decided. It has waited for all of it, so that nothing else can be meant.
    fn find_image(&mut self) -> Result<(), String> {
        let cut = self.taken.start;
        self.image = vec![ZEROES; self.sectors as usize];
        self.is_kept = vec![true; self.sectors as usize];
        for &sector in &self.lower.touched {
            let before = self.lower.versions(sector).iter();
            if let Some(version) = before.filter(|version| version.start < cut).next_back() {
                self.image[sector as usize] = version.id;
            }
        }
        self.old.extend(&self.image);
        for &sector in &self.upper.touched {
            let versions = self.upper.versions(sector);
            self.is_kept[sector as usize] = !versions.iter().any(|discard| {
                let written_after = |write: &&_| {
                    let write: &crate::timeline::Version = write;
                    !write.is_discard() && write.start > discard.end && write.end < cut
                };
                discard.is_discard()
                    && discard.start < cut
                    && !versions.iter().any(|write| written_after(&write))
            });
        }
        let wrong = (0..self.sectors as u32).find(|&sector| {
            let at = sector as usize;
            self.is_kept[at] && !self.upper.allows(sector, self.image[at], cut)
        });
        match wrong {
            Some(sector) => Err(format!(
                "at the checkpoint sector {sector} is not what was written to it"
            )),
            None => Ok(()),
        }
    }

    /// Returns whether `id` was on the device at the checkpoint, at any place, or nobody wrote it.
    pub(crate) fn is_old(&self, id: Id) -> bool {
        self.old.contains(&id)
    }

    /// Returns whether the file system has written `id` to `sector` since the checkpoint and before `cut`.
    pub(crate) fn is_written(&self, sector: usize, id: Id, cut: Time) -> bool {
        let since = self.taken.start..cut;
        let mut versions = self.upper.versions(sector as u32).iter();
        versions.any(|version| version.id == id && since.contains(&version.start))
    }

    /// Returns the sectors that a rollback has to give back.
    pub(crate) fn kept(&self) -> usize {
        self.is_kept.iter().filter(|kept| **kept).count()
    }
}

/// Returns the first log block that was written to the first sector, and what replaced the last.
fn decisions(lower: &Level, contents: &Contents) -> (Option<Decision>, Option<Decision>) {
    let mut taken = None;
    let mut given_up = None;
    for version in lower.versions(0) {
        let content = contents.get(version.id);
        let is_log = content.is_some_and(|content| log::probe(content).is_some());
        let decision = Decision {
            start: version.start,
            durable: version.durable,
            reported: NEVER,
        };
        match (taken, given_up, is_log) {
            (None, _, true) => taken = Some(decision),
            (Some(_), None, false) => given_up = Some(decision),
            _ => {}
        }
    }
    (taken, given_up)
}
