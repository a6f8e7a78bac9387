// SPDX-License-Identifier: GPL-2.0

//! Grants: free space that is handed to the file system, in portions, each before its first write.
//!
//! A write to free space needs no backup. But after a reboot the log has to tell which free space the file
//! system may have written to: backups must not be placed there, and a restore has to clear it. So the first
//! write to free space waits until a log entry, the *grant*, is durable. A grant is of many blocks, so that
//! most writes find their blocks granted.
//!
//! A granted block is writable. While the file system has not written to the block, the block can be
//! taken back ([`free_writes`](super::free_writes)), when space for backups is short. The log is not told,
//! since a backup that is placed there has an entry of its own, and what an entry says of a place counts
//! more than a grant.

use super::{
    batch::GRANTS_MAX,
    ranges::Kind,
    spans::Spans,
    stock::Ranges, //
};
use core::ops::Range as Span;
use kernel::{
    alloc::Flags,
    prelude::*, //
};

/// Maximum number of grants whose log write has not completed.
const PENDING_MAX: usize = 2 * GRANTS_MAX;

/// Nodes set aside for the end of a grant, which may divide a range at either end.
pub(super) const NODES_PER_GRANT: usize = 2;

/// Size of a grant in sectors, unless the file system goes on behind the last one.
const SIZE: u64 = 16 << 11;

/// Size in sectors to which grants grow when the file system goes on.
const SIZE_MAX: u64 = 256 << 11;

/// Part of the free space that is granted at a time: one in so many.
const FREE_SHARE: u64 = 8;

/// Maximum number of free ranges in a grant, since the end of a grant changes them all at once.
const RANGES_MAX: usize = 256;

/// Grants of a checkpoint.
pub(super) struct Grants {
    /// Spans whose grant is not durable yet, each with [`NODES_PER_GRANT`] nodes set aside.
    pending: KVec<Span<u64>>,
    /// Spans that cover all that was granted.
    pub(super) granted: Spans,
    /// The last grant: where it ends, and its size before it was cut down.
    last: (u64, u64),
}

impl Grants {
    /// Creates the grants of a new checkpoint.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(flags: Flags) -> Result<Self> {
        Ok(Self {
            pending: KVec::with_capacity(PENDING_MAX, flags)?,
            granted: Spans::default(),
            last: (0, 0),
        })
    }

    /// Returns the end of a pending grant that has `sector`, if there is one.
    pub(super) fn pending_at(&self, sector: u64) -> Option<u64> {
        let mut pending = self.pending.iter();
        pending
            .find(|span| span.contains(&sector))
            .map(|span| span.end)
    }

    /// Returns whether another grant may be pending.
    pub(super) fn may_grant(&self) -> bool {
        self.pending.len() < PENDING_MAX
    }

    /// Chooses the grant for a write to `sector`, which is free and the first of a block of `block` sectors:
    /// the window around the sector, as far as `bounds` allows.
    pub(super) fn choose(
        &self,
        sector: u64,
        block: u64,
        bounds: &Span<u64>,
        ranges: &Ranges,
    ) -> (Span<u64>, u64) {
        let goes_on = sector.wrapping_sub(self.last.0) < self.last.1;
        let mut size = if goes_on {
            self.last.1.saturating_mul(2).min(SIZE_MAX)
        } else {
            SIZE
        };
        let most = ranges.total(Kind::Free) / FREE_SHARE;
        while size > block && size > most {
            size /= 2;
        }
        // With less free space than before, the window behind the last grant may end before the sector.
        let start = if goes_on && sector.wrapping_sub(self.last.0) < size {
            self.last.0
        } else {
            sector & !size.wrapping_sub(1)
        };
        let end = start.saturating_add(size).min(bounds.end);
        let start = start.max(bounds.start).min(sector);
        let cut = Self::cut(start..end, ranges);
        if cut.contains(&sector) {
            (cut, size)
        } else {
            (Self::cut(sector..end, ranges), size)
        }
    }

    /// Cuts `span` down to [`RANGES_MAX`] ranges.
    fn cut(span: Span<u64>, ranges: &Ranges) -> Span<u64> {
        let mut position = span.start;
        for _ in 0..2 * RANGES_MAX {
            if position >= span.end {
                break;
            }
            position = ranges.run_at(position).end;
        }
        span.start..position.min(span.end)
    }

    /// Records that the log will be told of a grant of `span`, chosen with `size`.
    pub(super) fn begin(&mut self, span: &Span<u64>, size: u64) {
        self.last = (span.end, size);
        // There is capacity, since `may_grant` was asked.
        let _ = self.pending.push_within_capacity(span.clone());
    }

    /// Ends a pending grant. If `is_durable`, all free sectors of `span`, good or bad, become writable, and `granted` is
    /// called with each run of them.
    pub(super) fn end(
        &mut self,
        span: &Span<u64>,
        is_durable: bool,
        ranges: &mut Ranges,
        mut granted: impl FnMut(Span<u64>),
    ) {
        if let Some(index) = self.pending.iter().position(|pending| pending == span) {
            let _ = self.pending.remove(index);
        }
        if !is_durable {
            return;
        }
        self.granted.add(span.clone());
        let mut position = span.start;
        while position < span.end {
            let run = ranges.run_at(position);
            let end = run.end.min(span.end);
            // Only the ends of the span can divide a range, for which there are nodes. Without them a part
            // stays free, which is safe.
            if matches!(run.kind, Some(Kind::Free | Kind::Bad))
                && ranges.change(position..end, Some(Kind::Writable)).is_ok()
            {
                granted(position..end);
            }
            position = end;
        }
    }
}
