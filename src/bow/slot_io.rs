// SPDX-License-Identifier: GPL-2.0

//! I/O that the phases of a [`Slot`] start.

use super::{
    flight::{
        Flight,
        Part,
        Tag, //
    },
    slot::{
        Phase,
        Slot,
        COPY_PAGE,
        FULL_LOG_PAGE,
        LOG_PAGE, //
    },
    Bow, //
};
use crate::{
    abstractions::block::{
        bio::Status,
        bio_set::{
            BioSet,
            IoCompletion,
            IoOperation,
            IoRequest,
            Piece, //
        },
        buffer::{
            crc32,
            PAGE_BYTES, //
        },
        device::Device,
    },
    decisions::{
        chain::Appended,
        checkpoint::Checkpoint,
        log::entry_seed, //
    },
};
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    time::Instant, //
};

impl IoCompletion for Bow {
    type Tag = Tag;

    fn bios(&self) -> &BioSet<Self> {
        &self.bios
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn completed(this: ArcBorrow<'_, Self>, tag: Tag, status: Status) {
        if let Some(flight) = this.flights.get(tag.slot) {
            flight.record(tag.part, status);
            if flight.landed() {
                Arc::from(this).wake();
            }
        }
    }
}

impl Slot {
    /// Starts to read the old contents.
    pub(super) fn read(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Reading;
        for copy in self.batch.copies() {
            let bytes = copy.source_bytes(bow.sectors) as usize;
            if bytes < copy.bytes() as usize {
                // The end of the device cuts off the last block. There is such a page.
                let _ = self
                    .buffer
                    .fill(COPY_PAGE + copy.page + bytes / PAGE_BYTES, &[]);
            }
        }
        self.launch(bow, |slot, flight| {
            for (index, copy) in slot.batch.copies().iter().enumerate() {
                let piece = Piece {
                    page: COPY_PAGE + copy.page,
                    bytes: copy.source_bytes(bow.sectors) as usize,
                };
                flight.add();
                slot.submit(
                    bow,
                    IoOperation::Read,
                    copy.source,
                    core::iter::once(piece),
                    Part::Read(index),
                );
            }
        });
    }

    /// Starts the I/O of a phase. The phase cannot end before `start` has returned.
    pub(super) fn launch(&self, bow: &Arc<Bow>, start: impl FnOnce(&Self, &Flight)) {
        if let Some(flight) = self.flight(bow) {
            flight.launch();
            start(self, flight);
            // No need to wake the worker, which looks at the slot again after this.
            flight.landed();
        }
    }

    /// Submits a bio of internal I/O, which starts at `sector` of the underlying device.
    pub(super) fn submit(
        &self,
        bow: &Arc<Bow>,
        operation: IoOperation,
        sector: u64,
        pieces: impl Iterator<Item = Piece> + Clone,
        part: Part,
    ) {
        BioSet::submit(
            bow.as_arc_borrow(),
            IoRequest {
                operation,
                sector,
                tag: Tag {
                    slot: self.number,
                    part,
                },
            },
            self.buffer.pages(),
            pieces,
        );
    }

    /// Starts to write the backups; adjacent destinations are written by one bio. The phase cannot end before
    /// [`append`](Self::append).
    pub(super) fn write(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Writing;
        self.appended = None;
        let Some(flight) = self.flight(bow) else {
            return;
        };
        flight.launch();
        let copies = self.batch.copies();
        let mut first = 0;
        while let Some(copy) = copies.get(first) {
            if self.copy_error(bow, first).is_some() {
                first += 1;
                continue;
            }
            let joins = |index: usize| match (copies.get(index), copies.get(index + 1)) {
                (Some(copy), Some(next)) => {
                    copy.dest_end() == next.dest && self.copy_error(bow, index + 1).is_none()
                }
                _ => false,
            };
            let mut end = first;
            while !self.apart && joins(end) {
                end += 1;
            }
            let joined = copies.get(first..=end).unwrap_or_default();
            let part = Part::Write {
                first,
                count: joined.len(),
            };
            let pieces = joined.iter().map(|copy| Piece {
                page: COPY_PAGE + copy.page,
                bytes: copy.bytes() as usize,
            });
            flight.add();
            self.submit(bow, IoOperation::WriteFua, copy.dest, pieces, part);
            first = end + 1;
        }
    }

    /// Computes the checksums of the old contents, appends the entries to the log in memory, and starts to
    /// write the log blocks that this fills. To be called while the backups are being written.
    pub(super) fn append(&mut self, bow: &Arc<Bow>, checkpoint: &mut Checkpoint) {
        for copy in self.batch.copies_mut() {
            let seed = entry_seed(copy.source, bow.block.bytes());
            copy.checksum = self
                .buffer
                .crc32(seed, COPY_PAGE + copy.page, copy.bytes() as usize);
        }
        let Some(flight) = self.flight(bow) else {
            return;
        };
        if self.append_entries(flight, checkpoint).is_err() {
            // Cannot happen; but a copy that is not in the log is no backup.
            flight.fail_copies(Status::IO_ERROR);
            self.batch.fail_grants();
            self.grants_status = Status::IO_ERROR;
        }
        let blocks = self
            .appended
            .as_ref()
            .map_or(&[][..], Appended::full_blocks);
        for (index, &sector) in blocks.iter().enumerate() {
            let piece = Piece {
                page: FULL_LOG_PAGE + index,
                bytes: bow.block.bytes() as usize,
            };
            flight.add();
            self.submit(
                bow,
                IoOperation::WriteFua,
                sector,
                core::iter::once(piece),
                Part::FullLogBlock(index),
            );
        }
        // No need to wake the worker, which looks at the slot again after this.
        flight.landed();
    }

    /// Appends entries for the copies that have not failed so far, and fills the pages that log blocks are
    /// written from.
    ///
    /// # Errors
    ///
    /// Those of [`Checkpoint::append`], and `EINVAL` if the buffer has no such page; neither can happen.
    fn append_entries(&mut self, flight: &Flight, checkpoint: &mut Checkpoint) -> Result {
        let buffer = &mut self.buffer;
        self.appended = Some(Appended::default());
        let appended = checkpoint.append(
            &self.batch,
            |index| flight.error(index).is_some(),
            crc32,
            |number, sector| {
                // There are pages for as many log blocks as a batch can fill.
                let _ = buffer.write(FULL_LOG_PAGE + number, sector);
            },
        )?;
        self.appended = Some(appended);
        checkpoint.log().encode(&mut self.log, crc32);
        self.buffer.write(LOG_PAGE, &self.log)
    }

    /// Starts to write the log block: one logical block of the underlying device, of which all but the first
    /// sector is as it was.
    pub(super) fn write_log(&mut self, bow: &Arc<Bow>) {
        self.phase = Phase::Logging;
        self.log_begun = Instant::now();
        let piece = Piece {
            page: LOG_PAGE,
            bytes: bow.device.logical_block_size() as usize,
        };
        self.launch(bow, |slot, flight| {
            flight.add();
            let piece = core::iter::once(piece);
            slot.submit(bow, IoOperation::WriteFua, 0, piece, Part::Log);
        });
    }
}
