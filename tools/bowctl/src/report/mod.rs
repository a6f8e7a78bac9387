// SPDX-License-Identifier: GPL-2.0

//! Output of `status`, `log` and `check`, as text and as JSON.
//!
//! The names of JSON fields are an interface: the help of each command describes them, and so does
//! the manual page. They may be added to but not changed.

use std::fmt::Write as _;

use bow_decisions::log::{Entry, Header, SECTOR_SIZE};
use bow_decisions::state::State;
use serde::Serialize;

use crate::recovery::leftovers::Record;
use crate::recovery::sector_set::SectorSet;
use crate::recovery::Checked;
use crate::words::uuid;

mod status;

pub use status::{LiveStatus, PlainStatus, Space, Status};

/// A log block.
#[derive(Clone, Debug, Serialize)]
pub struct Block {
    /// Sector that it is at.
    pub sector: u64,
    /// Version: `1.0`, `1.1` or `1.2`.
    pub version: String,
    /// A restore has begun.
    pub restoring: bool,
    /// Bytes.
    pub block_size: u32,
    /// Number of log blocks before.
    pub sequence: u32,
    /// Number of entries.
    pub count: u32,
    /// First sector of the relocated first block.
    pub sector0: u64,
    /// The checkpoint's identity; none in version 1.0.
    pub uuid: Option<String>,
    /// Seconds since the epoch at which the checkpoint was taken; none in version 1.0.
    pub time: Option<u64>,
    /// Sector that the first block of the free map belongs at; none if there is no free map.
    pub free_map_sector: Option<u64>,
    /// Number of blocks of the free map; none if there is none.
    pub free_map_blocks: Option<u32>,
    /// Action to be taken at the next boot: `none`, `try` or `restore`.
    pub boot_action: &'static str,
    /// Number of boots that may still be tried.
    pub boot_tries_left: u8,
    /// Number of boots that may be tried in all.
    pub boot_tries: u8,
    /// The entries, in the order in which a restore does them. Empty in a status.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<LogEntry>,
}

/// An entry.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LogEntry {
    /// Its index in the log block.
    pub index: u32,
    /// Sector that the data belongs at.
    pub source: u64,
    /// Sector that it is saved at.
    pub dest: u64,
    /// Bytes.
    pub size: u32,
    /// Checksum; 0 if not recorded.
    pub checksum: u32,
    /// The entry is a grant of the sectors from source to dest.
    pub grant: bool,
}

/// A log.
#[derive(Clone, Debug, Serialize)]
pub struct Log {
    /// The device.
    pub device: String,
    /// The log blocks, newest first.
    pub blocks: Vec<Block>,
    /// Totals; none if it is damaged.
    pub summary: Option<Totals>,
    /// Description of the damage.
    pub error: Option<String>,
}

/// Totals of a log.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// Log blocks.
    pub log_blocks: u64,
    /// Entries.
    pub entries: u64,
    /// Bytes that a restore copies.
    pub bytes: u64,
    /// Record of free space; none if the log has no free map.
    pub free_map: Option<FreeMap>,
}

/// Record of free space, all in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct FreeMap {
    /// Description of the damage; the other fields are 0 then.
    pub error: Option<String>,
    /// Space that was free at the checkpoint.
    pub free_bytes: u64,
    /// Space of that which grants have handed to the file system.
    pub granted_bytes: u64,
    /// Space that a restore zeroes.
    pub zero_bytes: u64,
}

impl From<&Checked> for Totals {
    fn from(log: &Checked) -> Self {
        let bytes = |set: &SectorSet| set.sectors().saturating_mul(SECTOR_SIZE as u64);

        Self {
            log_blocks: log.summary.blocks,
            entries: log.summary.entries,
            bytes: log.summary.bytes,
            free_map: match &log.record {
                Record::None => None,
                Record::Damaged(error) => Some(FreeMap {
                    error: Some(error.to_string()),
                    free_bytes: 0,
                    granted_bytes: 0,
                    zero_bytes: 0,
                }),
                Record::Good(space) => Some(FreeMap {
                    error: None,
                    free_bytes: bytes(&space.free),
                    granted_bytes: bytes(&space.granted),
                    zero_bytes: bytes(&space.leftovers),
                }),
            },
        }
    }
}

/// Returns the word for a state.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Tracking => "tracking",
        State::Checkpoint => "checkpoint",
        State::Committed => "committed",
    }
}

impl Block {
    /// Makes a log block without its entries.
    pub fn new(sector: u64, header: &Header) -> Self {
        let [major, minor] = header.version.to_be_bytes();

        Self {
            sector,
            version: format!("{major}.{minor}"),
            restoring: header.restoring,
            block_size: header.block_size,
            sequence: header.sequence,
            count: header.count,
            sector0: header.sector0,
            uuid: header.identity.map(|identity| uuid(&identity.uuid)),
            time: header.identity.map(|identity| identity.time),
            free_map_sector: header.free_map.map(|map| map.sector),
            free_map_blocks: header.free_map.map(|map| map.blocks),
            boot_action: match header.boot.action {
                1 => "try",
                2 => "restore",
                _ => "none",
            },
            boot_tries_left: header.boot.tries_left,
            boot_tries: header.boot.tries,
            entries: Vec::new(),
        }
    }

    /// Returns the checkpoint in words.
    pub fn checkpoint(&self) -> String {
        match (&self.uuid, self.time) {
            (Some(uuid), Some(time)) => format!("checkpoint {uuid} of {}", utc(time)),
            _ => "checkpoint of unknown time (log version 1.0)".to_owned(),
        }
    }

    /// Returns what is to be done at the next boot, in words; [`None`] if that is nothing.
    fn next_boot(&self) -> Option<String> {
        let is_set = self.boot_action != "none" || self.boot_tries > 0;

        is_set.then(|| {
            format!(
                "{}, {} of {} tries left",
                self.boot_action, self.boot_tries_left, self.boot_tries
            )
        })
    }
}

impl LogEntry {
    /// Makes an entry at an index of the log block that has this header.
    pub fn new(header: &Header, index: u32, entry: Entry) -> Self {
        Self {
            index,
            source: entry.source,
            dest: entry.dest,
            size: entry.size,
            checksum: entry.checksum,
            grant: header.has_record() && entry.granted().is_some(),
        }
    }
}

impl Totals {
    /// Describes the totals in words.
    pub fn text(&self) -> String {
        let zeroes = match &self.free_map {
            None => ", no record of free space".to_owned(),
            Some(FreeMap {
                error: Some(error), ..
            }) => format!(", no usable record of free space: {error}"),
            Some(map) => format!(", {} bytes of free space to zero", map.zero_bytes),
        };

        format!(
            "{} log block{}, {} entr{}, {} bytes to copy back{zeroes}",
            self.log_blocks,
            if self.log_blocks == 1 { "" } else { "s" },
            self.entries,
            if self.entries == 1 { "y" } else { "ies" },
            self.bytes
        )
    }
}

impl Log {
    /// Formats the report as lines of text.
    pub fn text(&self) -> String {
        let mut text = String::new();

        for block in &self.blocks {
            let _ = writeln!(
                text,
                "log block {} at sector {}: version {}, block size {}, {} entries, sector0 {}{}",
                block.sequence,
                block.sector,
                block.version,
                block.block_size,
                block.count,
                block.sector0,
                if block.restoring {
                    ", restore begun"
                } else {
                    ""
                }
            );
            for entry in &block.entries {
                if entry.grant {
                    let _ = writeln!(
                        text,
                        "  {:>3}: grant from {:>10} to {:>14}",
                        entry.index, entry.source, entry.dest
                    );
                    continue;
                }
                let _ = writeln!(
                    text,
                    "  {:>3}: source {:>12} dest {:>12} size {:>8} checksum {:08x}",
                    entry.index, entry.source, entry.dest, entry.size, entry.checksum
                );
            }
        }
        if let Some(block) = self.blocks.first() {
            let _ = writeln!(text, "{}", block.checkpoint());
            if let (Some(sector), Some(blocks)) = (block.free_map_sector, block.free_map_blocks) {
                let _ = writeln!(text, "free map of {blocks} blocks, from sector {sector} on");
            }
            if let Some(boot) = block.next_boot() {
                let _ = writeln!(text, "next boot: {boot}");
            }
        }
        if let Some(totals) = &self.summary {
            let _ = writeln!(text, "{}", totals.text());
        }
        text
    }
}

/// Formats seconds since the epoch as a date and time of UTC.
pub fn utc(time: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    /// Days in 400 years.
    const ERA: u64 = 146_097;
    /// Days from the first of March of the year 0 to the epoch.
    const EPOCH: u64 = 719_468;

    // Years that begin in March, so that a leap day is a year's last.
    let days = time / DAY + EPOCH;
    let day_of_era = days % ERA;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = days / ERA * 400 + year_of_era + u64::from(month <= 2);
    let second = time % DAY;

    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        // As `date -u -d @N` has them.
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_354_594), "2026-11-22 13:36:34 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
    }
}
