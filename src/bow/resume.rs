// SPDX-License-Identifier: GPL-2.0

//! Going on with a checkpoint that is on the device: after a reboot, or after the target was removed.
//!
//! The log is read while the table line is converted. Nothing is written then, so a log that cannot be resumed
//! costs a refusal and nothing else.

use super::{
    active::Active,
    slot::Slot,
    tracking::Tracker,
    writable_map::WritableMap, //
};
use crate::{
    abstractions::{
        block::{
            buffer::{
                crc32,
                Buffer,
                PAGE_BYTES, //
            },
            device::Device, //
        },
        dm::table::CtrError,
    },
    decisions::{
        begin::Memory,
        block_size::BlockSize,
        checkpoint::Checkpoint,
        log::{
            self,
            Header,
            Sector,
            SECTOR_SIZE, //
        },
        ranges::{
            Kind,
            Nodes,
            RangeTree, //
        },
        resume::{
            Resume,
            ResumeError, //
        },
        table::{
            Arguments,
            ResumeOf, //
        },
    },
};
use core::ops::Range;
use kernel::{
    prelude::*, //
};

/// A checkpoint that was resumed.
pub(super) struct Resumed {
    pub(super) active: KBox<Active>,
    pub(super) writable: KBox<WritableMap>,
}

/// Logs why the checkpoint cannot be resumed, and what can be done. Returns the error for the caller of the ioctl.
fn refused(device: &Device, error: ResumeError) -> CtrError {
    let advice = match error {
        ResumeError::NoMemory => "try again",
        ResumeError::Restoring => "finish with `bowctl restore`",
        _ => "go back with `bowctl restore`, or keep the new contents with `bowctl commit`",
    };
    pr_err!(
        "{}: the checkpoint cannot be resumed: {}; {}\n",
        device.name(),
        error,
        advice
    );
    match error {
        ResumeError::NoMemory => CtrError(ENOMEM, c"not enough memory"),
        _ => CtrError(
            EINVAL,
            c"the checkpoint cannot be resumed (see the kernel log)",
        ),
    }
}

/// Pages that are read at once. Log blocks that follow each other lie together, the older behind the newer.
const PAGES: usize = 8;

/// Sectors that are read at once.
const SECTORS: u64 = (PAGES * PAGE_BYTES / SECTOR_SIZE) as u64;

/// Reader of a device, which reads ahead.
pub(super) struct Reader<'a> {
    device: &'a Device,
    /// Size of the device in sectors.
    sectors: u64,
    buffer: Buffer,
    /// Sectors that are in the buffer.
    place: Range<u64>,
}

impl<'a> Reader<'a> {
    /// Allocates a reader of `device`, of which `sectors` sectors may be read. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new(device: &'a Device, sectors: u64) -> Result<Self> {
        Ok(Self {
            device,
            sectors,
            buffer: Buffer::new(PAGES)?,
            place: 0..0,
        })
    }

    /// Fills `bytes`, whole sectors and at most a page, from `sector` on, a multiple of their number. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the device; `EINVAL` for anything else than such bytes.
    pub(super) fn read(&mut self, sector: u64, bytes: &mut [u8]) -> Result {
        let end = sector.saturating_add((bytes.len() / SECTOR_SIZE) as u64);
        if sector < self.place.start || end > self.place.end {
            self.place = 0..0;
            let wanted = self.sectors.min(sector.saturating_add(SECTORS));
            // Whole logical blocks, of which the first may be the only one.
            let logical = self.device.logical_block_size() as usize;
            let length = wanted.saturating_sub(sector) as usize * SECTOR_SIZE;
            let cut = length.checked_rem(logical).unwrap_or_default();
            let length = (length - cut).max(logical);
            self.device.read(sector, &mut self.buffer, 0, length)?;
            self.place = sector..sector.saturating_add((length / SECTOR_SIZE) as u64);
        }
        let offset = sector.saturating_sub(self.place.start) as usize * SECTOR_SIZE;
        self.buffer.read_at(offset, bytes)
    }
}

/// A log that was read.
struct Log {
    header: Header,
    ranges: RangeTree,
    /// Number of sectors that were free at the checkpoint.
    free_at_first: u64,
    /// First sector of the newest log block.
    newest: KBox<Sector>,
    /// The first block as at the checkpoint.
    first_block: KVec<u8>,
}

impl Log {
    /// Reads the log on `device`, of which the target has `sectors` sectors. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] that says why the checkpoint cannot be resumed.
    #[inline(never)]
    fn read(
        device: &Device,
        sectors: u64,
        arguments: &Arguments,
        wanted: ResumeOf,
    ) -> Result<Self, CtrError> {
        let cannot_read = |error| CtrError(error, c"the device cannot be read");
        let mut reader = Reader::new(device, sectors).map_err(no_memory)?;
        let mut read = |sector, bytes: &mut [u8]| reader.read(sector, bytes).map_err(cannot_read);
        let mut newest = KBox::new([0; SECTOR_SIZE], GFP_KERNEL).map_err(|_| no_memory(ENOMEM))?;
        // What can be read now must not be lost by a power cut once more is built on it.
        device.flush().map_err(cannot_read)?;
        read(0, &mut *newest)?;
        if log::probe(&*newest).is_none() {
            return Err(CtrError(
                EINVAL,
                c"there is no checkpoint on the device to be resumed",
            ));
        }
        let refuse = |error| refused(device, error);
        let mut resume = Resume::new(&*newest, sectors, crc32).map_err(refuse)?;
        check_wanted(resume.newest(), device, arguments, wanted)?;
        resume.read_all(&mut read)?.map_err(refuse)?;
        let header = *resume.newest();
        let mut first_block = KVec::from_elem(0, header.block_size as usize, GFP_KERNEL)
            .map_err(|_| no_memory(ENOMEM))?;
        read(resume.first_block_backup(), &mut first_block)?;
        Ok(Self {
            header,
            free_at_first: resume.free_at_first(),
            ranges: resume.finish().map_err(refuse)?,
            newest,
            first_block,
        })
    }
}

impl Resumed {
    /// Resumes the checkpoint on `device`, of which the target has `sectors` sectors. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] that says why not.
    #[inline(never)]
    pub(super) fn read(
        device: &Device,
        sectors: u64,
        arguments: &Arguments,
        wanted: ResumeOf,
    ) -> Result<(Self, BlockSize), CtrError> {
        let log = Log::read(device, sectors, arguments, wanted)?;
        let block = BlockSize::of(&log.header);
        let resumed = Self::of(log, block, sectors).map_err(no_memory)?;
        Ok((resumed, block))
    }

    /// Makes a device in state 1 of a log. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    #[inline(never)]
    fn of(log: Log, block: BlockSize, sectors: u64) -> Result<Self> {
        let Log {
            header,
            ranges,
            free_at_first,
            newest,
            first_block,
        } = log;
        let identity = header.identity.ok_or(EINVAL)?;
        let memory = Memory::new(block, identity, GFP_KERNEL)?;
        let entries = header.entries(&*newest);
        let mut checkpoint = Checkpoint::resume(
            ranges,
            free_at_first,
            block,
            sectors,
            memory,
            &header,
            entries,
        );
        checkpoint.set_cover(|bytes| copy(&first_block, bytes))?;
        let writable = KBox::new(WritableMap::new(sectors, block)?, GFP_KERNEL)?;
        checkpoint.for_each(|run| {
            if run.kind == Some(Kind::Writable) {
                writable.set(&(run.start..run.end.min(sectors)));
            }
        });
        let mut nodes = Nodes::new(Tracker::NODES, GFP_KERNEL)?;
        nodes.fill(GFP_KERNEL)?;
        let place = KBox::new_uninit(GFP_KERNEL)?;
        let slots = Slot::all(GFP_KERNEL)?;
        let buffer = Buffer::new(2)?;
        let Ok(mut active) = place.write_init(Active::new(checkpoint, slots, buffer, nodes));
        active.durable = *newest;
        active.cover_slots()?;
        Ok(Self { active, writable })
    }
}

/// Copies `from` to `to`. `EINVAL` if they are not of one length.
fn copy(from: &[u8], to: &mut [u8]) -> Result {
    if from.len() != to.len() {
        return Err(EINVAL);
    }
    to.copy_from_slice(from);
    Ok(())
}

/// Returns the error for a lack of memory.
fn no_memory(error: Error) -> CtrError {
    CtrError(error, c"not enough memory")
}

/// Checks that the newest log block, which has `header`, is of the checkpoint that is wanted, and fits `device`.
fn check_wanted(
    header: &Header,
    device: &Device,
    arguments: &Arguments,
    wanted: ResumeOf,
) -> Result<(), CtrError> {
    let is_wanted = match wanted {
        ResumeOf::Any => true,
        ResumeOf::Uuid(uuid) => header
            .identity
            .is_some_and(|identity| identity.uuid == uuid),
    };
    if !is_wanted {
        return Err(CtrError(
            EINVAL,
            c"the checkpoint on the device has another UUID than the one to be resumed",
        ));
    }
    if header.block_size < device.logical_block_size() {
        return Err(CtrError(
            EINVAL,
            c"the checkpoint has blocks smaller than the device's logical blocks",
        ));
    }
    match arguments.block_size {
        Some(size) if size.bytes() != header.block_size => Err(CtrError(
            EINVAL,
            c"the checkpoint on the device has another block_size",
        )),
        _ => Ok(()),
    }
}
