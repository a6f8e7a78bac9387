// SPDX-License-Identifier: GPL-2.0

//! Places of data on the device while a restore is simulated.
//!
//! A restore copies data about, and later copies read what earlier ones wrote. [`Relocations`]
//! follows that without copying anything: it says for each sector, as the restore would see it by
//! then, which sector of the untouched device holds its data.
//!
//! It takes one node for each run of sectors that has moved as a whole. A copy of many runs makes as
//! many new ones, so that copies of copies can double their number each time; whoever follows a log
//! that may come from anyone bounds the runs of each copy ([`Relocations::copy`]).

use kernel::{
    prelude::*,
    rbtree::RBTree, //
};

/// A run of sectors: what a restore finds there is elsewhere on the untouched device.
///
/// # Invariants
///
/// `start` is less than the run's key in the tree, its end.
#[derive(Clone, Copy)]
struct Run {
    /// First sector of the run.
    start: u64,
    /// Sector at which the data of `start` is.
    data: u64,
}

/// A piece of a range whose data is contiguous: see [`Relocations::find`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Sector of the untouched device at which the data starts.
    pub data: u64,
    /// Number of sectors.
    pub sectors: u64,
}

/// The simulated state of a device: which copies have been made.
#[derive(Default)]
pub struct Relocations {
    /// The runs by their ends (exclusive), so that the run that holds a sector, or else the next
    /// one, is the lower bound of the sector that follows it.
    runs: RBTree<u64, Run>,
}

impl Relocations {
    /// Begins with nothing copied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns where the data of `sector` is, and how many of the `sectors` that start there follow
    /// it without a gap.
    pub fn find(&self, sector: u64, sectors: u64) -> Piece {
        let Some((end, run)) = self.run_after(sector) else {
            return Piece {
                data: sector,
                sectors,
            };
        };

        match sector.checked_sub(run.start) {
            Some(offset) => Piece {
                data: run.data.saturating_add(offset),
                sectors: sectors.min(end.saturating_sub(sector)),
            },
            None => Piece {
                data: sector,
                sectors: sectors.min(run.start.saturating_sub(sector)),
            },
        }
    }

    /// Simulates the copy of `sectors` from `dest` to `source`, which may come from at most `most`
    /// runs. The end of neither range may exceed [`u64::MAX`].
    ///
    /// Returns the number of runs; `None` if there are more, and nothing has changed.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; the simulation is then of no more use.
    pub fn copy(&mut self, source: u64, dest: u64, sectors: u64, most: u64) -> Result<Option<u64>> {
        // Looked up before anything changes, since the ranges may have runs in common.
        let mut pieces = KVVec::new();
        let mut done = 0;

        while done < sectors {
            if pieces.len() as u64 >= most {
                return Ok(None);
            }
            let piece = self.find(dest.saturating_add(done), sectors.saturating_sub(done));

            pieces.push(piece, GFP_KERNEL)?;
            done = done.saturating_add(piece.sectors);
        }

        self.cut(source, source.saturating_add(sectors))?;

        let mut start = source;
        for piece in &pieces {
            let end = start.saturating_add(piece.sectors);

            // Data that comes home needs no run.
            if piece.data != start {
                self.insert(start, end, piece.data)?;
            }
            start = end;
        }
        Ok(Some(pieces.len() as u64))
    }

    /// Takes the first run away. Returns the sectors that had their data elsewhere.
    pub fn take_first(&mut self) -> Option<core::ops::Range<u64>> {
        let end = *self.runs.cursor_front()?.current().0;
        let run = self.runs.remove(&end)?;

        Some(run.start..end)
    }

    /// Returns the run that holds `sector`, or else the next one, and its end.
    fn run_after(&self, sector: u64) -> Option<(u64, Run)> {
        let cursor = self.runs.cursor_lower_bound(&sector.checked_add(1)?)?;
        let (end, run) = cursor.current();

        Some((*end, *run))
    }

    /// Takes the sectors from `start` to `end` out of all runs.
    fn cut(&mut self, start: u64, end: u64) -> Result {
        while let Some((run_end, run)) = self.run_after(start).filter(|(_, run)| run.start < end) {
            self.runs.remove(&run_end);
            if run.start < start {
                self.insert(run.start, start, run.data)?;
            }
            if run_end > end {
                let offset = end.saturating_sub(run.start);

                self.insert(end, run_end, run.data.saturating_add(offset))?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, start: u64, end: u64, data: u64) -> Result {
        // INVARIANT: Callers' runs are not empty.
        self.runs
            .try_create_and_insert(end, Run { start, data }, GFP_KERNEL)?;
        Ok(())
    }
}
