// SPDX-License-Identifier: GPL-2.0

//! Writing of the free map, before the first log.

use crate::{
    abstractions::block::{
        buffer::{
            crc32,
            Buffer,
            PAGE_BYTES, //
        },
        device::Device, //
    },
    decisions::{
        block_size::BlockSize,
        checkpoint::Checkpoint,
        free_map::MapBlock,
        log::SECTOR_SIZE, //
    },
};
use core::ops::Range;
use kernel::{
    prelude::*, //
};

/// Pages of blocks that are written at once, where their places are adjacent.
const PAGES: usize = 8;

/// Memory for the writing of a free map.
pub(super) struct FreeMapIo {
    map: MapBlock,
    /// Blocks that are not written yet, one after the other.
    buffer: Buffer,
    /// Their place: sectors of the device.
    place: Range<u64>,
}

impl FreeMapIo {
    /// Allocates the memory. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(block: BlockSize) -> Result<Self> {
        Ok(Self {
            map: MapBlock::new(block, GFP_KERNEL)?,
            buffer: Buffer::new(PAGES)?,
            place: 0..0,
        })
    }

    /// Writes the free map of `checkpoint` to `device`. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOSPC` if there are too few free blocks; errors of the underlying device.
    pub(super) fn write(mut self, checkpoint: &mut Checkpoint, device: &Device) -> Result {
        let Self { map, buffer, place } = &mut self;
        checkpoint.write_free_map(map, crc32, |sector, block| {
            let bytes = byte_count(place);
            if sector != place.end || bytes + block.len() > PAGES * PAGE_BYTES {
                write(device, buffer, place)?;
                *place = sector..sector;
            }
            buffer.write_at(byte_count(place), block)?;
            place.end = sector.saturating_add((block.len() / SECTOR_SIZE) as u64);
            Ok(())
        })?;
        write(device, buffer, place)
    }
}

/// Returns the number of bytes of the sectors of `place`.
fn byte_count(place: &Range<u64>) -> usize {
    place.end.saturating_sub(place.start) as usize * SECTOR_SIZE
}

/// Writes the start of `buffer` to `place`, unless that is empty.
fn write(device: &Device, buffer: &Buffer, place: &Range<u64>) -> Result {
    if place.is_empty() {
        return Ok(());
    }
    device.write(place.start, buffer, 0, byte_count(place))
}
