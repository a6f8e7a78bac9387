// SPDX-License-Identifier: GPL-2.0

//! The block device below a target.
//!
//! C header: [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

use super::{
    bindings as dm_bindings,
    buffer::Buffer, //
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*, //
};

/// A block device that a target has opened. Device mapper closes it with the table.
///
/// # Invariants
///
/// The pointer is to a `struct dm_dev` that `dm_get_device` returned.
pub(crate) struct Device {
    pub(super) dev: NonNull<dm_bindings::dm_dev>,
}

// SAFETY: `struct dm_dev` is not changed while it is open, and its block device may be used from
// any thread.
unsafe impl Send for Device {}
// SAFETY: As above.
unsafe impl Sync for Device {}

impl Device {
    /// The C block device.
    #[inline]
    pub(super) fn bdev(&self) -> *mut bindings::block_device {
        // SAFETY: By the type invariant.
        unsafe { self.dev.as_ref().bdev }
    }

    /// Major and minor number, as the kernel packs them.
    pub(crate) fn number(&self) -> u32 {
        // SAFETY: By the type invariant the block device is valid.
        unsafe { (*self.bdev()).bd_dev }
    }

    /// `MAJOR:MINOR`, as tables name devices.
    pub(crate) fn name(&self) -> &str {
        // SAFETY: By the type invariant; `name` is a C string that is not changed.
        let name = unsafe { CStr::from_char_ptr(self.dev.as_ref().name.as_ptr()) };
        // Digits and a colon.
        name.to_str().unwrap_or_default()
    }

    /// Size in sectors.
    pub(crate) fn sectors(&self) -> u64 {
        // SAFETY: By the type invariant the block device is valid.
        unsafe { dm_bindings::helper_bdev_nr_sectors(self.bdev()) }
    }

    /// Bytes in a logical block: what it can read and write at the least.
    pub(crate) fn logical_block_size(&self) -> u32 {
        // SAFETY: By the type invariant the block device is valid.
        unsafe { dm_bindings::helper_bdev_logical_block_size(self.bdev()) }
    }

    /// Whether it refuses writes.
    pub(crate) fn is_read_only(&self) -> bool {
        // SAFETY: By the type invariant the block device is valid.
        unsafe { dm_bindings::helper_bdev_read_only(self.bdev()) }
    }

    /// Whether parts of it can only be written in sequence.
    pub(crate) fn is_zoned(&self) -> bool {
        // SAFETY: By the type invariant the block device is valid.
        unsafe { dm_bindings::helper_bdev_is_zoned(self.bdev()) }
    }

    /// Makes everything that was written durable. Sleeps.
    ///
    /// # Errors
    ///
    /// The device's.
    pub(crate) fn flush(&self) -> Result {
        // SAFETY: By the type invariant the block device is valid.
        to_result(unsafe { bindings::blkdev_issue_flush(self.bdev()) })
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
        // SAFETY: By the type invariant the block device is valid; the page has that many bytes,
        // lies in the direct mapping and stays until this returns, which is when the I/O has ended.
        to_result(unsafe {
            bindings::bdev_rw_virt(self.bdev(), sector, address.cast(), bytes, flags)
        })
    }
}
