// SPDX-License-Identifier: GPL-2.0

//! A restore of a device that the target has let go of, step by step.
//!
//! [`Restore`] says what to zero and to copy, what to write to the first block and when to flush. It does
//! no I/O: the caller carries the steps out, each before it asks for the next.
//!
//! # Why a restore can be cut off anywhere
//!
//! Power may fail at any step. Of what was written since the last flush, any part may then be on
//! the device, in units of a sector. The restore begins again with the log in the first block, and
//! must come to the same end.
//!
//! - **What decides is the first sector.** It holds the header and all entries that are still to be
//!   done, and a device writes it wholly or not at all. In a log of version 1.1 that is always so.
//!   One of version 1.0 may have entries beyond it; these stay as they are until they have been
//!   done and the header's count no longer covers them.
//! - **Copies are repeated from the last mark on.** A *mark* is the log block written again, with
//!   its count cut to the entries that are still to be done. Before a copy would overwrite a place
//!   that was read from since the last mark, everything is flushed, the mark is written, and
//!   flushed again. So whatever is repeated reads what it read before, or what an earlier repeated
//!   copy writes again.
//! - **The first copy is preceded by a mark** as well, which turns the magic to "WOB": from then on
//!   the device is in neither state, and nobody may keep the new one any more.
//! - **Between the two, free space is zeroed,** and flushed: [`leftovers`](super::leftovers) says which of
//!   it, and why then.
//! - **The first block is replaced last and in two writes**, when its count is 1: first the sectors
//!   after the first, with the first as it is, then, after a flush, the first. The write in between
//!   costs nothing that counts: what stands there has no meaning while the first sector is that of
//!   a log with one entry. Both writes write the whole block, since a device may have blocks larger
//!   than a sector; sectors that do not change cannot be torn.
//! - **An older log block replaces the newer one in one write,** from version 1.1 on: what stands after its first
//!   sector stays as it is. A boot loader may need that ([`bow_decisions::cover`]).
//!
//! The mark before entry 0 is always needed, since entry 0 overwrites the log.

use std::ops::Range;

use bow_decisions::log::{Crc32, Entry, Header, SECTOR_SHIFT, SECTOR_SIZE};
use kernel::prelude::*;

use super::error::CheckError;
use super::first_block::{parse, Block, Replace, Step, BLOCK_MAX};
use super::sector_set::SectorSet;
use bow_decisions::check::{check_first, sectors, source_end};

/// Next action of a [`Restore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Flush: what this restore finds may be in a cache only, if an earlier one was killed.
    Begin,
    /// Zero what is left of the leftovers, then do the entry before this index.
    Zero {
        before: u32,
    },
    /// Do the entry before this index.
    Entries {
        before: u32,
    },
    /// Flush what was copied, then mark the log block with this count.
    MarkFlush {
        count: u32,
    },
    MarkWrite {
        count: u32,
    },
    /// Flush the mark, then go on.
    Marked {
        count: u32,
    },
    /// Read what belongs in the first block.
    Load {
        entry: Entry,
    },
    Replace(Replace),
    Done,
}

/// A restore under way. See the [module](self).
pub struct Restore {
    crc32: Crc32,
    /// Size of the device in sectors.
    device: u64,
    /// The first block as it is on the device, or will be when the step at hand is done.
    first: Block,
    /// Its header.
    header: Header,
    /// Block that will replace the first block.
    next: Block,
    /// Sectors to be zeroed.
    leftovers: std::vec::IntoIter<Range<u64>>,
    /// True if sectors were zeroed since the last flush.
    has_zeroed: bool,
    /// Zero what stands after the log.
    hides: bool,
    /// Sector ranges that were read from since the last mark.
    used: KVec<(u64, u64)>,
    /// True once what follows the first block in the last entry of all has been copied.
    rest_copied: bool,
    state: State,
}

impl Restore {
    /// Begins, or takes up again, to restore a device of `device` sectors whose first block is
    /// `first`, and to zero `leftovers`.
    ///
    /// The log must have been checked ([`bow_decisions::check::Check`]).
    ///
    /// # Errors
    ///
    /// If `first` is no log block.
    pub fn new(
        first: &[u8],
        device: u64,
        leftovers: SectorSet,
        crc32: Crc32,
    ) -> Result<Self, CheckError> {
        let header = parse(first, crc32)?;
        let first = Block::new(first, header.block_size as usize).ok_or(CheckError::Unexpected)?;

        Ok(Self {
            crc32,
            device,
            first,
            header,
            next: Block {
                bytes: [0; BLOCK_MAX],
                len: 0,
            },
            leftovers: leftovers.into_iter(),
            has_zeroed: false,
            hides: false,
            used: KVec::new(),
            rest_copied: false,
            state: State::Begin,
        })
    }

    /// Hides the file system from boot loaders too until the restore is complete: what they would find is neither
    /// the old one nor the new one. Not of a log of version 1.0, which has entries there.
    #[must_use]
    pub fn hiding(mut self, hides: bool) -> Self {
        self.hides = hides && self.header.has_checksum();
        self
    }

    /// Returns the next step. The one before must have been carried out; after [`Step::Read`],
    /// [`Self::feed`] comes first.
    ///
    /// # Errors
    ///
    /// If the log is not what was checked, or memory is short. Stop then; the restore can be begun
    /// again.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be fed")]
    pub fn next(&mut self) -> Result<Step<'_>, CheckError> {
        loop {
            match self.state {
                State::Begin => {
                    let count = self.header.count;

                    self.state = if self.header.restoring {
                        State::Zero { before: count }
                    } else {
                        State::MarkWrite { count }
                    };
                    return Ok(Step::Flush);
                }
                State::Zero { before } => {
                    if let Some(span) = self.leftovers.next() {
                        self.has_zeroed = true;
                        return Ok(Step::Zero {
                            sector: span.start,
                            sectors: span.end.saturating_sub(span.start),
                        });
                    }
                    self.state = State::Entries { before };
                    if std::mem::take(&mut self.has_zeroed) {
                        return Ok(Step::Flush);
                    }
                }
                State::Entries { before } => {
                    let index = before.checked_sub(1).ok_or(CheckError::Unexpected)?;

                    if let Some((from, to, bytes)) = self.entry(index)? {
                        return Ok(Step::Copy { from, to, bytes });
                    }
                }
                State::MarkFlush { count } => {
                    self.state = State::MarkWrite { count };
                    return Ok(Step::Flush);
                }
                State::MarkWrite { count } => {
                    self.header = self.header.mark(&mut self.first.bytes, count, self.crc32);
                    if self.hides {
                        self.first.bytes[SECTOR_SIZE..].fill(0);
                    }
                    self.state = State::Marked { count };
                    return Ok(Step::WriteFirst(self.first.as_slice()));
                }
                State::Marked { count } => {
                    self.used.clear();
                    self.state = State::Zero { before: count };
                    return Ok(Step::Flush);
                }
                State::Load { entry } => {
                    return Ok(Step::Read {
                        sector: entry.dest,
                        len: self.first.len,
                    });
                }
                State::Replace(step) => return self.replace(step),
                State::Done => return Ok(Step::Done),
            }
        }
    }

    /// Takes the block that [`Step::Read`] asked for.
    ///
    /// # Errors
    ///
    /// If it is not the log block that comes next.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), CheckError> {
        if !matches!(self.state, State::Load { .. }) {
            return Err(CheckError::Unexpected);
        }
        self.next = Block::new(data, self.first.len).ok_or(CheckError::Unexpected)?;
        let mut keeps_rest = false;
        if let Some(expected) = self.header.sequence.checked_sub(1) {
            let header = parse(data, self.crc32)?;

            if header.sequence != expected || header.block_size != self.header.block_size {
                return Err(CheckError::Unexpected);
            }
            header.mark(&mut self.next.bytes, header.count, self.crc32);
            keeps_rest = header.has_checksum();
        }
        if keeps_rest {
            self.next.take_tail(&self.first);
        }
        self.state = State::Replace(if self.first.len > SECTOR_SIZE && !keeps_rest {
            Replace::Tail
        } else {
            Replace::Head
        });
        Ok(())
    }

    /// Decides what entry `index` needs: returns the copy (from, to, bytes), or goes on to another
    /// state.
    fn entry(&mut self, index: u32) -> Result<Option<(u64, u64, u32)>, CheckError> {
        let entry = self
            .header
            .entry(&self.first.bytes, index)
            .ok_or(CheckError::Unexpected)?;
        let block = self.header.block_size;
        let count = index.saturating_add(1);
        let wrong = |error| CheckError::Entry {
            sequence: self.header.sequence,
            index,
            entry,
            error,
        };

        check_first(&self.header, index, entry).map_err(wrong)?;

        // The first block is not copied like others; what follows it in its entry is. What there is
        // not of the device's last block is not copied either.
        let skip = if index == 0 { block } else { 0 };
        let bytes = match index {
            0 if self.rest_copied => 0,
            _ if entry.size <= skip => 0,
            _ => {
                let end = source_end(&self.header, self.device, entry).map_err(wrong)?;
                let padding = end.saturating_sub(self.device) << SECTOR_SHIFT;
                let there = entry.size.saturating_sub(padding as u32);

                there.saturating_sub(skip)
            }
        };
        let from = entry.dest.saturating_add(sectors(skip));
        let to = entry.source.saturating_add(sectors(skip));

        if bytes == 0 {
            self.state = match index {
                0 => self.before_first(entry),
                _ => State::Entries { before: index },
            };
            return Ok(None);
        }
        if self.overlaps_used(to, to.saturating_add(sectors(bytes))) {
            self.state = State::MarkFlush { count };
            return Ok(None);
        }
        self.used
            .push((from, from.saturating_add(sectors(bytes))), GFP_KERNEL)
            .map_err(|_| CheckError::NoMemory)?;
        if index == 0 {
            // Comes back here, for the first block itself.
            self.rest_copied = true;
        } else {
            self.state = State::Entries { before: index };
        }
        Ok(Some((from, to, bytes)))
    }

    /// Returns what comes before the first block is replaced: a mark with a count of 1, unless that
    /// is what the device already has, with nothing copied since.
    fn before_first(&self, entry: Entry) -> State {
        if self.header.restoring && self.header.count == 1 && self.used.is_empty() {
            State::Load { entry }
        } else {
            State::MarkFlush { count: 1 }
        }
    }

    /// Returns whether a copy to these sectors would overwrite a place that was read from since the
    /// last mark.
    fn overlaps_used(&self, start: u64, end: u64) -> bool {
        self.used.iter().any(|used| start < used.1 && used.0 < end)
    }

    fn replace(&mut self, step: Replace) -> Result<Step<'_>, CheckError> {
        match step {
            Replace::Tail => {
                self.first.take_tail(&self.next);
                self.state = State::Replace(Replace::TailFlush);
                Ok(Step::WriteFirst(self.first.as_slice()))
            }
            Replace::TailFlush => {
                self.state = State::Replace(Replace::Head);
                Ok(Step::Flush)
            }
            Replace::Head => {
                self.first.bytes = self.next.bytes;
                self.state = State::Replace(Replace::HeadFlush);
                Ok(Step::WriteFirst(self.first.as_slice()))
            }
            Replace::HeadFlush => {
                self.used.clear();
                if self.header.sequence > 0 {
                    self.header = parse(&self.first.bytes, self.crc32)?;
                    self.state = State::Entries {
                        before: self.header.count,
                    };
                } else {
                    self.state = State::Done;
                }
                Ok(Step::Flush)
            }
        }
    }
}
