// SPDX-License-Identifier: GPL-2.0

//! The extent of the log of a recording, and the check that it is what its workload is there for.

use crate::contents::Contents;
use crate::timeline::Level;
use bow_decisions::log::{Entry, Header};
use bowctl::crc::crc32;
use std::collections::BTreeMap;

/// Extent of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Log blocks in the chain.
    pub(crate) chain: usize,
    /// Backups that moved out of the way.
    pub(crate) moved: usize,
    /// Moves of the relocated first block.
    pub(crate) first_block: usize,
    /// Backups of a last block that the end of the device cuts off.
    pub(crate) cut_off: usize,
    /// 1 if the checkpoint was committed.
    pub(crate) commit: usize,
}

impl Reach {
    /// Reads it from all that was written to the first sector of a device of `sectors` sectors.
    pub(crate) fn new(
        lower: &Level,
        contents: &Contents,
        sectors: u64,
        is_committed: bool,
    ) -> Self {
        // The newest of each sequence.
        let mut chain: BTreeMap<u32, Vec<Entry>> = BTreeMap::new();
        let mut places = Vec::new();
        for version in lower.versions(0) {
            let Some(block) = contents.get(version.id) else {
                continue;
            };
            let Ok(header) = Header::parse(block, crc32) else {
                continue;
            };
            places.push(header.sector0);
            chain.insert(header.sequence, header.entries(block).collect());
        }
        places.dedup();

        let mut taken: Vec<(u64, u64)> = Vec::new();
        let (mut moved, mut cut_off) = (0, 0);
        for entry in chain.values().flatten() {
            let end = |start| start + u64::from(entry.size) / 512;
            cut_off += usize::from(end(entry.source) > sectors);
            moved += usize::from(
                taken
                    .iter()
                    .any(|(from, to)| entry.source < *to && *from < end(entry.source)),
            );
            taken.push((entry.dest, end(entry.dest)));
        }
        Self {
            chain: chain.len(),
            moved,
            first_block: places.len().saturating_sub(1),
            cut_off,
            commit: usize::from(is_committed),
        }
    }

    /// Checks that it is as far as `wanted` says: words such as `chain=20`.
    pub(crate) fn check(&self, wanted: &str) -> Result<(), String> {
        for word in wanted.split_whitespace() {
            let (name, least) = word.split_once('=').ok_or("at_least has no number")?;
            let reached = match name {
                "chain" => self.chain,
                "moved" => self.moved,
                "first_block" => self.first_block,
                "cut_off" => self.cut_off,
                "commit" => self.commit,
                _ => return Err(format!("at_least: {name} is nothing that is counted")),
            };
            let least: usize = least.parse().map_err(|error| format!("{word}: {error}"))?;
            if reached < least {
                return Err(format!("the workload has missed its aim, {word}: {self:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_can_be_missed() {
        let reach = Reach {
            chain: 3,
            moved: 2,
            ..Reach::default()
        };
        assert_eq!(reach.check("chain=3 moved=1"), Ok(()));
        assert!(reach.check("chain=4").is_err());
        assert!(reach.check("chain=3 commit=1").is_err());
        assert!(reach.check("links=1").is_err());
    }
}
