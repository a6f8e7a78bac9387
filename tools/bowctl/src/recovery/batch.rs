// SPDX-License-Identifier: GPL-2.0

//! Copies of a restore that do not depend on each other, to be made in any order.
//!
//! Between two marks a restore overwrites nothing that it has read. But a copy may read what an
//! earlier one writes, if a backup was moved, or write to the same place. Such a copy begins another
//! batch, before which this one must have ended. It need not be flushed: after a power cut all of both
//! is copied again.

use std::ops::Range;

use bow_decisions::check::READ_MAX;
use bow_decisions::log::SECTOR_SIZE;

use crate::device::copy::CopyBack;

/// The most sectors that are copied at once.
const COPY_MAX: u64 = (READ_MAX / SECTOR_SIZE) as u64;

/// The most copies of a batch, which bounds its memory. At the full size of each they are a gigabyte.
const BATCH_MAX: usize = 1024;

/// Copies that do not depend on each other.
#[derive(Debug, Default)]
pub(super) struct Batch {
    copies: Vec<CopyBack>,
    read: Vec<Range<u64>>,
    written: Vec<Range<u64>>,
}

impl Batch {
    /// Returns whether a copy may be made in any order with those of the batch, and there is room for
    /// it.
    pub(super) fn takes(&self, copy: CopyBack) -> bool {
        let touches = |list: &[Range<u64>], range: Range<u64>| {
            list.iter()
                .any(|other| range.start < other.end && other.start < range.end)
        };

        self.copies.len() < BATCH_MAX
            && !touches(&self.written, copy.reads())
            && !touches(&self.written, copy.writes())
            && !touches(&self.read, copy.writes())
    }

    /// Adds a copy that the batch [takes](Self::takes).
    pub(super) fn push(&mut self, copy: CopyBack) {
        let mut done = 0;

        self.read.push(copy.reads());
        self.written.push(copy.writes());
        while done < copy.sectors {
            let part = CopyBack {
                from: copy.from.saturating_add(done),
                to: copy.to.saturating_add(done),
                sectors: COPY_MAX.min(copy.sectors - done),
            };
            let last = self.copies.last_mut();

            done += part.sectors;
            match last.and_then(|last| Some((last.join(&part)?, last))) {
                Some((joined, last)) if joined.sectors <= COPY_MAX => *last = joined,
                _ => self.copies.push(part),
            }
        }
    }

    /// Takes the copies out.
    pub(super) fn take(&mut self) -> Vec<CopyBack> {
        self.read.clear();
        self.written.clear();
        std::mem::take(&mut self.copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(from: u64, to: u64, sectors: u64) -> CopyBack {
        CopyBack { from, to, sectors }
    }

    fn batch(copies: &[CopyBack]) -> Batch {
        let mut batch = Batch::default();

        for copy in copies {
            assert!(batch.takes(*copy));
            batch.push(*copy);
        }
        batch
    }

    #[test]
    fn what_depends_on_a_copy_is_not_taken() {
        let mut batch = batch(&[copy(100, 10, 8)]);

        assert!(!batch.takes(copy(16, 50, 8)), "reads what is written");
        assert!(!batch.takes(copy(200, 4, 8)), "writes to the same place");
        assert!(!batch.takes(copy(200, 107, 8)), "writes to what is read");
        assert!(batch.takes(copy(18, 50, 8)));
        assert!(batch.takes(copy(100, 50, 8)), "reads the same");
        batch.take();
        assert!(batch.takes(copy(16, 50, 8)), "all copies have ended");
    }

    #[test]
    fn neighbours_are_one_copy() {
        let copies = batch(&[
            copy(108, 40, 8),
            copy(100, 32, 8),
            copy(116, 48, 8),
            copy(92, 300, 8),
            copy(124, 24, 8),
        ]);

        assert_eq!(
            copies.copies,
            [copy(100, 32, 24), copy(92, 300, 8), copy(124, 24, 8)]
        );
    }

    #[test]
    fn no_copy_is_too_large() {
        let copies = batch(&[copy(10_000, 0, 2 * COPY_MAX + 8), copy(9_000, 9_100, 8)]);

        assert_eq!(
            copies.copies,
            [
                copy(10_000, 0, COPY_MAX),
                copy(10_000 + COPY_MAX, COPY_MAX, COPY_MAX),
                copy(10_000 + 2 * COPY_MAX, 2 * COPY_MAX, 8),
                copy(9_000, 9_100, 8)
            ]
        );
    }
}
