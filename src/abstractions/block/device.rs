// SPDX-License-Identifier: GPL-2.0

//! A block device that is open, and closed while others have its handle.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::buffer::Buffer;
use crate::abstractions::{
    bindings as dm_bindings,
    srcu::{
        SrcuCell,
        Ticket, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    str::CString,
    sync::{
        atomic::{
            ordering::{
                Acquire,
                Full, //
            },
            Atomic, //
        },
        Arc, //
    },
};

/// A handle of a block device that somebody has opened.
///
/// The handle may outlive the device: whoever closes that [closes](Self::close) the handle first, and every
/// use of it fails from then on.
///
/// # Invariants
///
/// - `bdev` is null, or points to a block device that is open.
/// - It is not closed before every ticket of `uses` that was handed out while `bdev` was not null has been
///   dropped.
#[pin_data]
pub(crate) struct Device {
    bdev: Atomic<*mut bindings::block_device>,
    number: u32,
    name: CString,
    logical_block_size: u32,
    #[pin]
    uses: SrcuCell,
}

/// Facts about a device that may change while it is open.
pub(crate) struct Facts {
    /// Size in sectors.
    pub(crate) sectors: u64,
    /// Set if the device refuses writes.
    pub(crate) is_read_only: bool,
    /// Set if parts of the device can only be written in sequence.
    pub(crate) is_zoned: bool,
    /// Set if the device takes discards.
    pub(crate) discards: bool,
}

impl Device {
    /// Creates the handle of an open device. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    ///
    /// # Safety
    ///
    /// - `bdev` points to a block device that is open.
    /// - The caller calls [`close`](Self::close) before the device is closed for the last time.
    pub(in crate::abstractions) unsafe fn new(
        bdev: *mut bindings::block_device,
        name: &CStr,
    ) -> Result<Arc<Self>> {
        let name = CString::try_from(name)?;
        // SAFETY: By the safety requirements the block device is open.
        let number = unsafe { (*bdev).bd_dev };
        // SAFETY: As above.
        let logical_block_size = unsafe { dm_bindings::helper_bdev_logical_block_size(bdev) };
        // INVARIANT: The device is open, and not closed without `close`.
        Arc::pin_init(
            try_pin_init!(Self {
                bdev: Atomic::new(bdev),
                number,
                name,
                logical_block_size,
                uses <- SrcuCell::new(None),
            }),
            GFP_KERNEL,
        )
    }

    /// Has every use of the device fail from now on, and waits for those that are under way: for
    /// calls to return, and for bios of a [`BioSet`](super::bio_set::BioSet) to have ended. Sleeps.
    pub(in crate::abstractions) fn close(&self) {
        self.bdev.xchg(core::ptr::null_mut(), Full);
        self.uses.drain();
    }

    /// Begins a use of the device, which lasts until the ticket is dropped. Returns nothing if the handle has
    /// been closed.
    pub(super) fn enter(&self) -> Option<(NonNull<bindings::block_device>, Ticket)> {
        let ticket = self.uses.enter();
        NonNull::new(self.bdev.load(Acquire)).map(|bdev| (bdev, ticket))
    }

    /// Calls `operation` with the block device, which is open until it returns.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the device has been closed; those of `operation`.
    fn with<R>(
        &self,
        operation: impl FnOnce(*mut bindings::block_device) -> Result<R>,
    ) -> Result<R> {
        let (bdev, _ticket) = self.enter().ok_or(ENODEV)?;
        operation(bdev.as_ptr())
    }

    /// Returns whether this is the handle of `bdev`, which is open: addresses of two open devices differ.
    pub(in crate::abstractions) fn is_of(&self, bdev: *mut bindings::block_device) -> bool {
        self.bdev.load(Acquire) == bdev
    }

    /// Returns major and minor number, as the kernel packs them.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Returns `MAJOR:MINOR`, as tables name devices.
    pub(crate) fn name(&self) -> &str {
        // Digits and a colon.
        self.name.to_str().unwrap_or_default()
    }

    /// Returns the bytes of a logical block when the handle was made: what the device can read and write at
    /// the least.
    pub(crate) fn logical_block_size(&self) -> u32 {
        self.logical_block_size
    }

    /// Returns what the device says of itself now.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it has been closed.
    pub(crate) fn facts(&self) -> Result<Facts> {
        self.with(|bdev| {
            // SAFETY: The block device is open.
            let sectors = unsafe { dm_bindings::helper_bdev_nr_sectors(bdev) };
            // SAFETY: As above.
            let is_read_only = unsafe { dm_bindings::helper_bdev_read_only(bdev) };
            // SAFETY: As above.
            let is_zoned = unsafe { dm_bindings::helper_bdev_is_zoned(bdev) };
            // SAFETY: As above.
            let discards = unsafe { dm_bindings::helper_bdev_max_discard_sectors(bdev) } > 0;
            Ok(Facts {
                sectors,
                is_read_only,
                is_zoned,
                discards,
            })
        })
    }

    /// Makes everything that was written durable. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the device; `ENODEV` if the handle has been closed.
    pub(crate) fn flush(&self) -> Result {
        self.with(|bdev| {
            // SAFETY: The block device is open.
            to_result(unsafe { bindings::blkdev_issue_flush(bdev) })
        })
    }

    /// Reads `bytes` bytes from `sector` into the start of page `page` of `buffer`. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the device; `ENODEV` if the handle has been closed; `EINVAL` if the pages do not lie
    /// together.
    pub(crate) fn read(
        &self,
        sector: u64,
        buffer: &mut Buffer,
        page: usize,
        bytes: usize,
    ) -> Result {
        self.transfer(sector, buffer, page, bytes, dm_bindings::HELPER_REQ_OP_READ)
    }

    /// Writes `bytes` bytes from the start of page `page` of `buffer` to `sector`. Sleeps.
    ///
    /// # Errors
    ///
    /// Those of the device; `ENODEV` if the handle has been closed; `EINVAL` if the pages do not lie
    /// together.
    pub(crate) fn write(&self, sector: u64, buffer: &Buffer, page: usize, bytes: usize) -> Result {
        let flags = dm_bindings::HELPER_REQ_OP_WRITE | dm_bindings::HELPER_REQ_SYNC;
        self.transfer(sector, buffer, page, bytes, flags)
    }

    /// Writes like [`write`](Self::write), with a flush before and FUA: everything that was written before is
    /// durable before this is, and this is durable when the call returns.
    ///
    /// # Errors
    ///
    /// As those of [`write`](Self::write).
    pub(crate) fn commit(&self, sector: u64, buffer: &Buffer, page: usize, bytes: usize) -> Result {
        let flags = dm_bindings::HELPER_REQ_OP_WRITE
            | dm_bindings::HELPER_REQ_SYNC
            | dm_bindings::HELPER_REQ_PREFLUSH
            | dm_bindings::HELPER_REQ_FUA;
        self.transfer(sector, buffer, page, bytes, flags)
    }

    fn transfer(
        &self,
        sector: u64,
        buffer: &Buffer,
        page: usize,
        bytes: usize,
        flags: u32,
    ) -> Result {
        let address = buffer.address(page)?;
        if buffer
            .pages()
            .run(page, bytes)
            .is_none_or(|run| run.bytes < bytes)
        {
            return Err(EINVAL);
        }
        self.with(|bdev| {
            // SAFETY: The block device is open; the pages have that many bytes from `address` on, lie together in
            // the direct mapping and stay until this returns, which is when the I/O has ended.
            to_result(unsafe { bindings::bdev_rw_virt(bdev, sector, address.cast(), bytes, flags) })
        })
    }
}
