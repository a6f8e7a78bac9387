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
                Buffer, //
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
            Identity,
            Sector,
            BLOCK_SIZE_MAX,
            SECTOR_SIZE, //
        },
        ranges::{
            Kind,
            Nodes, //
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
use kernel::prelude::*;

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

/// Reader of blocks of the underlying device.
struct Reader<'a> {
    device: &'a Device,
    buffer: Buffer,
    bytes: KVec<u8>,
}

impl Reader<'_> {
    /// Reads `bytes` bytes, at most a page, from `sector`. Sleeps.
    fn read(&mut self, sector: u64, bytes: usize) -> Result<&[u8]> {
        // Whole logical blocks; the first bytes of the page are those asked for.
        let whole = bytes.max(self.device.logical_block_size() as usize);
        self.device.read(sector, &mut self.buffer, 0, whole)?;
        self.bytes.resize(bytes, 0, GFP_KERNEL)?;
        self.buffer.read(0, &mut self.bytes)?;
        Ok(&self.bytes)
    }
}

impl Resumed {
    /// Resumes the checkpoint on `device`, of which the target has `sectors` sectors. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] that says why not.
    pub(super) fn read(
        device: &Device,
        sectors: u64,
        arguments: &Arguments,
        wanted: ResumeOf,
    ) -> Result<(Self, BlockSize), CtrError> {
        let no_memory = |_| CtrError(ENOMEM, c"not enough memory");
        let cannot_read = |error| CtrError(error, c"the device cannot be read");
        let mut reader = Reader {
            device,
            buffer: Buffer::new(1).map_err(no_memory)?,
            bytes: KVec::with_capacity(BLOCK_SIZE_MAX as usize, GFP_KERNEL)
                .map_err(|_| CtrError(ENOMEM, c"not enough memory"))?,
        };
        // What can be read now must not be lost by a power cut once more is built on it.
        device.flush().map_err(cannot_read)?;
        let mut newest: Sector = [0; SECTOR_SIZE];
        reader
            .read(0, SECTOR_SIZE)
            .map_err(cannot_read)?
            .iter()
            .zip(&mut newest)
            .for_each(|(from, to)| *to = *from);
        if log::probe(&newest).is_none() {
            return Err(CtrError(
                EINVAL,
                c"there is no checkpoint on the device to be resumed",
            ));
        }
        let mut resume =
            Resume::new(&newest, sectors, crc32).map_err(|error| refused(device, error))?;
        check_wanted(resume.newest(), arguments, wanted)?;
        if resume.newest().block_size < device.logical_block_size() {
            return Err(CtrError(
                EINVAL,
                c"the checkpoint has blocks smaller than the device's logical blocks",
            ));
        }
        while let Some(read) = resume.next().map_err(|error| refused(device, error))? {
            let bytes = reader.read(read.sector, read.bytes).map_err(cannot_read)?;
            resume.feed(bytes).map_err(|error| refused(device, error))?;
        }
        let header = *resume.newest();
        let block = resume.block();
        let ranges = resume.finish().map_err(|error| refused(device, error))?;
        let identity = header.identity.unwrap_or(Identity {
            uuid: [0; 16],
            time: 0,
        });
        let memory = Memory::new(block, identity, GFP_KERNEL).map_err(no_memory)?;
        let checkpoint = Checkpoint::resume(
            ranges,
            block,
            sectors,
            memory,
            &header,
            header.entries(&newest),
        );
        Self::of(checkpoint, newest, block, sectors)
            .map(|resumed| (resumed, block))
            .map_err(no_memory)
    }

    /// Makes a device in state 1 of a checkpoint whose newest log block is `newest`. Sleeps.
    fn of(
        mut checkpoint: Checkpoint,
        newest: Sector,
        block: BlockSize,
        sectors: u64,
    ) -> Result<Self> {
        let writable = KBox::new(WritableMap::new(sectors, block)?, GFP_KERNEL)?;
        checkpoint.for_each(|run| {
            if run.kind == Some(Kind::Writable) {
                writable.set(&(run.start..run.end.min(sectors)));
            }
        });
        let place = KBox::new_uninit(GFP_KERNEL)?;
        let slots = Slot::all(GFP_KERNEL)?;
        let buffer = Buffer::new(2)?;
        let mut nodes = Nodes::new(Tracker::NODES, GFP_KERNEL)?;
        nodes.fill(GFP_KERNEL)?;
        let Ok(mut active) = place.write_init(Active::new(checkpoint, slots, buffer, nodes));
        active.durable = newest;
        Ok(Self { active, writable })
    }
}

/// Checks that the newest log block, which has `header`, is of the checkpoint that is wanted.
fn check_wanted(header: &Header, arguments: &Arguments, wanted: ResumeOf) -> Result<(), CtrError> {
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
    match arguments.block_size {
        Some(size) if size.bytes() != header.block_size => Err(CtrError(
            EINVAL,
            c"the checkpoint on the device has another block_size",
        )),
        _ => Ok(()),
    }
}
