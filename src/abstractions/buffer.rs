// SPDX-License-Identifier: GPL-2.0

//! Pages that block I/O reads into and writes from.

use super::bindings as dm_bindings;
use kernel::{
    alloc::Flags,
    bindings,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
};

/// Pages of memory, addressed by page number.
///
/// A device may be reading or writing them at any time, so they are never lent out as slices; they
/// are accessed as device memory would be.
pub(crate) struct Buffer {
    pages: KVec<Page>,
}

impl Buffer {
    /// Allocates `pages` pages. `ENOMEM` if there are none to be had with `flags`, which must not
    /// ask for high memory.
    pub(crate) fn new(pages: usize, flags: Flags) -> Result<Self> {
        let mut buffer = KVec::with_capacity(pages, flags)?;
        for _ in 0..pages {
            buffer.push(Page::alloc_page(flags)?, flags)?;
        }
        Ok(Self { pages: buffer })
    }

    /// The C page number `index`.
    pub(super) fn page(&self, index: usize) -> Option<*mut bindings::page> {
        Some(self.pages.get(index)?.as_ptr())
    }

    /// The kernel address of page `index`.
    pub(super) fn address(&self, index: usize) -> Option<*mut u8> {
        // SAFETY: The page is valid; it is not in high memory, so it has an address.
        Some(unsafe { dm_bindings::helper_page_address(self.page(index)?) }.cast())
    }

    /// Copies `data` to the start of page `index` and fills the rest of the page with zeroes.
    /// `EINVAL` if it does not fit.
    pub(crate) fn fill(&self, index: usize, data: &[u8]) -> Result {
        let address = self.address(index).ok_or(EINVAL)?;
        let rest = PAGE_SIZE.checked_sub(data.len()).ok_or(EINVAL)?;
        // SAFETY: The page has `PAGE_SIZE` bytes, of which `data` covers all but `rest`.
        unsafe {
            core::ptr::copy_nonoverlapping(data.as_ptr(), address, data.len());
            core::ptr::write_bytes(address.add(data.len()), 0, rest);
        }
        Ok(())
    }

    /// Copies the start of page `index` to `data`. `EINVAL` if a page has not that many bytes.
    pub(crate) fn read(&self, index: usize, data: &mut [u8]) -> Result {
        let address = self.address(index).ok_or(EINVAL)?;
        if data.len() > PAGE_SIZE {
            return Err(EINVAL);
        }
        // SAFETY: The page has `PAGE_SIZE` bytes, and `data` is not longer.
        unsafe { core::ptr::copy_nonoverlapping(address, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// The raw CRC-32 of the `bytes` bytes that start at page `index`, from `seed`. Pages that are
    /// not there are passed over.
    pub(crate) fn crc32(&self, seed: u32, index: usize, bytes: usize) -> u32 {
        let mut checksum = seed;
        let mut left = bytes;
        let mut index = index;
        while let Some(address) = self.address(index).filter(|_| left > 0) {
            let length = left.min(PAGE_SIZE);
            // SAFETY: The page has `PAGE_SIZE` bytes.
            checksum = unsafe {
                dm_bindings::helper_crc32_le(checksum, address.cast_const().cast(), length)
            };
            left -= length;
            index += 1;
        }
        checksum
    }
}

/// The raw CRC-32 of `data` from `seed`: polynomial 0xEDB88320, no inversion.
pub(crate) fn crc32(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is valid for its length.
    unsafe { dm_bindings::helper_crc32_le(seed, data.as_ptr().cast(), data.len()) }
}
