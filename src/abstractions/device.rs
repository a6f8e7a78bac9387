// SPDX-License-Identifier: GPL-2.0

//! The underlying device of a target.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::{
    bindings as dm_bindings,
    buffer::Buffer,
    epoch::{
        Epoch,
        Ticket, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
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

/// A block device that the tables of one target object have opened.
///
/// It may outlive them: when the last of these tables goes, the device is
/// [closed](Self::close) first, and every use of it fails from then on.
///
/// # Invariants
///
/// - `bdev` is null, or points to a block device that is open.
/// - It is not closed before every ticket of `epoch` that was handed out while `bdev` was not null
///   has been given back.
#[pin_data]
pub(crate) struct Device {
    bdev: Atomic<*mut bindings::block_device>,
    number: u32,
    name: CString,
    logical_block_size: u32,
    #[pin]
    epoch: Epoch,
}

/// Facts about a device that may change while it is open.
pub(crate) struct Facts {
    /// Size in sectors.
    pub(crate) sectors: u64,
    /// Set if the device refuses writes.
    pub(crate) is_read_only: bool,
    /// Set if parts of the device can only be written in sequence.
    pub(crate) is_zoned: bool,
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
    /// `dev` came from `dm_get_device`. The caller calls [`close`](Self::close) before it has the
    /// device closed for the last time.
    pub(super) unsafe fn new(dev: NonNull<dm_bindings::dm_dev>) -> Result<Arc<Self>> {
        // SAFETY: By the safety requirements; `name` is a C string that is not changed.
        let (bdev, name) = unsafe {
            let dev = dev.as_ref();
            (dev.bdev, CStr::from_char_ptr(dev.name.as_ptr()))
        };
        let name = CString::try_from(name)?;
        // SAFETY: By the safety requirements the block device is open.
        let (number, logical_block_size) = unsafe {
            (
                (*bdev).bd_dev,
                dm_bindings::helper_bdev_logical_block_size(bdev),
            )
        };
        // INVARIANT: The device is open, and not closed without `close`.
        Arc::pin_init(
            try_pin_init!(Self {
                bdev: Atomic::new(bdev),
                number,
                name,
                logical_block_size,
                epoch <- Epoch::new(),
            }),
            GFP_KERNEL,
        )
    }

    /// Has every use of the device fail from now on, and waits for those that are under way: for
    /// calls to return, and for bios of a [`BioSet`](super::bio::BioSet) to have ended. Sleeps.
    pub(super) fn close(&self) {
        self.bdev.xchg(core::ptr::null_mut(), Full);
        self.epoch.drain();
    }

    /// Begins a use of the device, which lasts until the ticket is given to [`leave`](Self::leave).
    /// Returns nothing if it has been closed.
    pub(super) fn enter(&self) -> Option<(NonNull<bindings::block_device>, Ticket)> {
        let ticket = self.epoch.enter();
        match NonNull::new(self.bdev.load(Acquire)) {
            Some(bdev) => Some((bdev, ticket)),
            None => {
                self.epoch.leave(ticket);
                None
            }
        }
    }

    /// Ends a use of the device. Any context.
    pub(super) fn leave(&self, ticket: Ticket) {
        self.epoch.leave(ticket);
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
        let (bdev, ticket) = self.enter().ok_or(ENODEV)?;
        let result = operation(bdev.as_ptr());
        self.leave(ticket);
        result
    }

    /// Returns whether this is the block device of `dev`.
    ///
    /// # Safety
    ///
    /// `dev` came from `dm_get_device` and is open.
    pub(super) unsafe fn is_of(&self, dev: NonNull<dm_bindings::dm_dev>) -> bool {
        // SAFETY: By the safety requirements. What is compared is addresses: of two devices that
        // are open at a time they differ.
        let bdev = unsafe { dev.as_ref().bdev };
        self.bdev.load(Acquire) == bdev
    }

    /// Major and minor number, as the kernel packs them.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// `MAJOR:MINOR`, as tables name devices.
    pub(crate) fn name(&self) -> &str {
        // Digits and a colon.
        self.name.to_str().unwrap_or_default()
    }

    /// Bytes in a logical block when the device was opened: what it can read and write at the
    /// least.
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
            Ok(Facts {
                sectors,
                is_read_only,
                is_zoned,
            })
        })
    }

    /// Makes everything that was written durable. Sleeps.
    ///
    /// # Errors
    ///
    /// The device's.
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
    /// The device's; `EINVAL` for more than a page.
    pub(crate) fn read(&self, sector: u64, buffer: &Buffer, page: usize, bytes: usize) -> Result {
        self.transfer(sector, buffer, page, bytes, dm_bindings::HELPER_REQ_OP_READ)
    }

    /// Writes `bytes` bytes from the start of page `page` of `buffer` to `sector`. Sleeps.
    ///
    /// # Errors
    ///
    /// The device's; `EINVAL` for more than a page.
    pub(crate) fn write(&self, sector: u64, buffer: &Buffer, page: usize, bytes: usize) -> Result {
        let flags = dm_bindings::HELPER_REQ_OP_WRITE | dm_bindings::HELPER_REQ_SYNC;
        self.transfer(sector, buffer, page, bytes, flags)
    }

    /// Like [`write`](Self::write), but everything written before is durable before it is written,
    /// and it is durable itself when this returns.
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
        let address = buffer.address(page).ok_or(EINVAL)?;
        if bytes > PAGE_SIZE {
            return Err(EINVAL);
        }
        self.with(|bdev| {
            // SAFETY: The block device is open; the page has that many bytes, lies in the direct
            // mapping and stays until this returns, which is when the I/O has ended.
            to_result(unsafe { bindings::bdev_rw_virt(bdev, sector, address.cast(), bytes, flags) })
        })
    }
}
