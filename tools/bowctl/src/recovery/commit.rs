// SPDX-License-Identifier: GPL-2.0

//! A commit of a device that the target has let go of, step by step.
//!
//! The relocated first block goes to the first block, in two writes with a flush after
//! each, as a restore puts the old one back: first the sectors after the first, then the first sector,
//! which decides. A log of version 1.0 with entries beyond its first sector loses these to the first
//! write, so that if power fails between the two, the new state can still be kept, but the old one
//! can no longer be restored. Nothing can be done about that in a format whose header cannot say
//! that its entries are gone.
//!
//! One of them may be the entry that says where the relocated first block has been moved
//! (`relocated`). The header is made to say that before, in a write and a flush of its own.

use bow_decisions::log::Crc32;

use super::error::{CheckError, CommitError};
use super::first_block::{parse, relocated, Block, Replace, Step};
use bow_decisions::check::block_sectors;

/// Next action of a [`Commit`].
enum State {
    /// Make the header say where the relocated first block is.
    Place,
    PlaceFlush,
    Replace(Replace),
    Done,
}

/// Keeping the new state, under way. See the [module](self).
pub struct Commit {
    /// First sector of the relocated first block.
    sector0: u64,
    /// The first block as it is on the device, or will be when the step at hand is done.
    first: Block,
    /// Block that will replace it, once that has been read.
    next: Option<Block>,
    state: State,
}

impl Commit {
    /// Begins to keep the new state of a device of `device` sectors whose first block is `first`.
    ///
    /// # Errors
    ///
    /// If `first` is no log block, or says that a restore has begun, or does not say where on the
    /// device the relocated first block is.
    pub fn new(first: &[u8], device: u64, crc32: Crc32) -> Result<Self, CommitError> {
        let header = parse(first, crc32).map_err(CommitError::Invalid)?;
        let block = block_sectors(&header);
        let sector0 = relocated(&header, first);

        if header.restoring {
            return Err(CommitError::Restoring);
        }
        if sector0 == 0 || sector0 % block != 0 || sector0 > device.saturating_sub(block) {
            return Err(CommitError::Invalid(CheckError::Sector0 {
                sector: 0,
                sector0,
            }));
        }
        let mut first = Block::new(first, header.block_size as usize)
            .ok_or(CommitError::Invalid(CheckError::Unexpected))?;
        let state = if sector0 == header.sector0 {
            State::Replace(Replace::Tail)
        } else {
            header.set_sector0(&mut first.bytes, sector0, crc32);
            State::Place
        };
        Ok(Self {
            sector0,
            first,
            next: None,
            state,
        })
    }

    /// Returns the next step. The one before must have been carried out; after [`Step::Read`],
    /// [`Self::feed`] comes first.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot be fed")]
    pub fn next(&mut self) -> Step<'_> {
        let Some(next) = &self.next else {
            return Step::Read {
                sector: self.sector0,
                len: self.first.len,
            };
        };

        match self.state {
            State::Place => {
                self.state = State::PlaceFlush;
                Step::WriteFirst(self.first.as_slice())
            }
            State::PlaceFlush => {
                self.state = State::Replace(Replace::Tail);
                Step::Flush
            }
            State::Replace(Replace::Tail) => {
                self.first.take_tail(next);
                self.state = State::Replace(Replace::TailFlush);
                Step::WriteFirst(self.first.as_slice())
            }
            State::Replace(Replace::TailFlush) => {
                self.state = State::Replace(Replace::Head);
                Step::Flush
            }
            State::Replace(Replace::Head) => {
                self.state = State::Replace(Replace::HeadFlush);
                Step::WriteFirst(next.as_slice())
            }
            State::Replace(Replace::HeadFlush) => {
                self.state = State::Done;
                Step::Flush
            }
            State::Done => Step::Done,
        }
    }

    /// Takes the block that [`Step::Read`] asked for.
    ///
    /// # Errors
    ///
    /// If it is shorter than a block.
    pub fn feed(&mut self, data: &[u8]) -> Result<(), CommitError> {
        let next =
            Block::new(data, self.first.len).ok_or(CommitError::Invalid(CheckError::Unexpected))?;

        self.next = Some(next);
        Ok(())
    }
}
