// SPDX-License-Identifier: GPL-2.0

//! Memory that block I/O reads into and writes from.
//!
//! A [`Buffer`] is the one owner of its memory, through which the CPU reads and writes. Bios share the
//! [`Pages`] underneath, through which nobody but the device does.
//!
//! Their pages have [`PAGE_BYTES`] bytes on every kernel. Those of the kernel may be larger, and then have several.

use crate::abstractions::bindings as dm_bindings;
use core::ptr::NonNull;
use kernel::{
    bindings,
    page::PAGE_SIZE,
    prelude::*,
    sync::Arc, //
};

/// Size in bytes of a page of a buffer.
pub(crate) const PAGE_BYTES: usize = 4096;

/// The pages that are in one of the kernel, as a power of two.
const SPLIT: u32 = (PAGE_SIZE / PAGE_BYTES).trailing_zeros();

const _: () = assert!(PAGE_BYTES << SPLIT == PAGE_SIZE);

/// The most pages of the kernel in a [`Chunk`], as a power of two. The kernel finds such chunks as surely as single
/// pages (`PAGE_ALLOC_COSTLY_ORDER`).
const CHUNK_ORDER: u32 = 3;

/// Pages of the kernel that lie together in memory.
///
/// # Invariants
///
/// The pointer is to the first of `1 << order` pages of the kernel that were allocated together, are in the direct
/// mapping, and are owned by this.
struct Chunk {
    first: NonNull<bindings::page>,
    order: u32,
}

// SAFETY: Pages may be used and freed by any thread.
unsafe impl Send for Chunk {}
// SAFETY: A `&Chunk` gives out addresses only; what is done with them is argued there.
unsafe impl Sync for Chunk {}

impl Chunk {
    fn new(order: u32) -> Result<Self> {
        // SAFETY: May be called in any context that may sleep.
        let first = unsafe { bindings::alloc_pages(dm_bindings::HELPER_GFP_CHUNK, order) };
        // INVARIANT: They were just allocated, with flags that do not ask for high memory.
        Ok(Self {
            first: NonNull::new(first).ok_or(ENOMEM)?,
            order,
        })
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: By the type invariant these pages are ours, and were allocated together.
        unsafe { bindings::__free_pages(self.first.as_ptr(), self.order) };
    }
}

/// Pages of memory that bios refer to, in chunks that lie together.
///
/// # Invariants
///
/// Each chunk has `1 << shift` pages of `PAGE_BYTES` bytes.
pub(crate) struct Pages {
    chunks: KVec<Chunk>,
    shift: u32,
}

/// Bytes of a buffer that lie together in memory.
///
/// # Invariants
///
/// `page` is a page of a [`Chunk`] that has `bytes` bytes from `offset` on, and `offset` is less than `PAGE_SIZE`.
pub(super) struct Run {
    /// Page of the kernel that has the first of them.
    pub(super) page: *mut bindings::page,
    /// Their offset from the start of that page.
    pub(super) offset: usize,
    /// Their number.
    pub(super) bytes: usize,
}

impl Run {
    /// Returns the kernel address of the first byte.
    fn address(&self) -> *mut u8 {
        // SAFETY: By the type invariants the page is of a chunk, and so in the direct mapping.
        let page = unsafe { dm_bindings::helper_page_address(self.page) };
        page.cast::<u8>().wrapping_add(self.offset)
    }
}

/// Pages of memory, addressed by page number.
///
/// A device may be reading or writing them at any time, as with DMA, so the bytes are never lent out as
/// slices, and what is read while a device writes is not known.
pub(crate) struct Buffer {
    pages: Arc<Pages>,
}

impl Pages {
    fn new(pages: usize) -> Result<Self> {
        let kernel_pages = pages.div_ceil(1 << SPLIT);
        let order = kernel_pages
            .next_power_of_two()
            .trailing_zeros()
            .min(CHUNK_ORDER);
        let count = kernel_pages.div_ceil(1 << order);
        let mut chunks = KVec::with_capacity(count, GFP_KERNEL)?;
        for _ in 0..count {
            chunks.push(Chunk::new(order)?, GFP_KERNEL)?;
        }
        // INVARIANT: Each has `1 << order` pages of the kernel, and `1 << SPLIT` pages are in each of these.
        Ok(Self {
            chunks,
            shift: order + SPLIT,
        })
    }

    /// Returns the place of page `index`, and how many of the `bytes` bytes from its start lie together.
    pub(super) fn run(&self, index: usize, bytes: usize) -> Option<Run> {
        let chunk = self.chunks.get(index >> self.shift)?;
        let pages = 1 << self.shift;
        let offset = (index & (pages - 1)) * PAGE_BYTES;
        // SAFETY: By the type invariants the chunk has `pages` pages of `PAGE_BYTES` bytes, so `offset` is within
        // it. Page structures of one allocation lie together.
        let page = unsafe { chunk.first.as_ptr().add(offset / PAGE_SIZE) };
        // INVARIANT: The rest of the chunk's bytes is the limit.
        Some(Run {
            page,
            offset: offset % PAGE_SIZE,
            bytes: bytes.min(pages * PAGE_BYTES - offset),
        })
    }

    /// Returns the number of runs into which the `bytes` bytes from the start of page `index` fall.
    pub(super) fn runs(&self, index: usize, bytes: usize) -> usize {
        let pages = 1 << self.shift;
        ((index & (pages - 1)) + bytes.div_ceil(PAGE_BYTES)).div_ceil(pages)
    }

    /// Returns the kernel address of page `index`.
    fn address(&self, index: usize) -> Option<*mut u8> {
        Some(self.run(index, PAGE_BYTES)?.address())
    }
}

impl Buffer {
    /// Allocates `pages` pages, or some more, full of zeroes. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(pages: usize) -> Result<Self> {
        Ok(Self {
            pages: Arc::new(Pages::new(pages)?, GFP_KERNEL)?,
        })
    }

    /// Returns the pages, for bios.
    pub(crate) fn pages(&self) -> &Arc<Pages> {
        &self.pages
    }

    /// Returns the address of page `index`, which has `PAGE_BYTES` bytes.
    pub(super) fn address(&self, index: usize) -> Result<*mut u8> {
        self.pages.address(index).ok_or(EINVAL)
    }

    /// Copies `data` to the start of page `index` and fills the rest of the page with zeroes.
    /// `EINVAL` if it does not fit.
    pub(crate) fn fill(&mut self, index: usize, data: &[u8]) -> Result {
        self.write(index, data)?;
        let address = self.address(index)?;
        let rest = PAGE_BYTES.checked_sub(data.len()).ok_or(EINVAL)?;
        // SAFETY: The page has `PAGE_BYTES` bytes, and `data` is not longer.
        let end = unsafe { address.add(data.len()) };
        // SAFETY: As in `write`; the page has `rest` bytes from `end` on.
        unsafe { core::ptr::write_bytes(end, 0, rest) };
        Ok(())
    }

    /// Copies `data` to the start of page `index`; the rest of the page stays. `EINVAL` if it does not
    /// fit.
    pub(crate) fn write(&mut self, index: usize, data: &[u8]) -> Result {
        self.write_at(index.checked_mul(PAGE_BYTES).ok_or(EINVAL)?, data)
    }

    /// Copies `data` to the bytes from `offset` on; the others stay. `EINVAL` if it does not fit into the page that
    /// has the first of these bytes.
    pub(crate) fn write_at(&mut self, offset: usize, data: &[u8]) -> Result {
        let address = self.address(offset / PAGE_BYTES)?;
        let within = offset % PAGE_BYTES;
        if data.len() > PAGE_BYTES - within {
            return Err(EINVAL);
        }
        // SAFETY: The page has `PAGE_BYTES` bytes, and `within` is less.
        let address = unsafe { address.add(within) };
        // SAFETY: The buffer is borrowed mutably, so no other caller accesses the page. A bio may, as a device
        // does by DMA; the bytes are then not known, but there is no reference to them. The page has at least
        // `data.len()` bytes from `address` on, and `data` is other memory.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), address, data.len()) };
        Ok(())
    }

    /// Copies page `from` to page `to`. `EINVAL` if they are not two pages of this.
    pub(crate) fn copy(&mut self, from: usize, to: usize) -> Result {
        let source = self.address(from)?;
        let dest = self.address(to)?;
        if from == to {
            return Err(EINVAL);
        }
        // SAFETY: As in `write`. Both pages have `PAGE_BYTES` bytes, and are not the same one.
        unsafe { core::ptr::copy_nonoverlapping(source, dest, PAGE_BYTES) };
        Ok(())
    }

    /// Copies the start of page `index` to `data`. `EINVAL` if a page has not that many bytes.
    pub(crate) fn read(&self, index: usize, data: &mut [u8]) -> Result {
        self.read_at(index.checked_mul(PAGE_BYTES).ok_or(EINVAL)?, data)
    }

    /// Copies the bytes from `offset` on to `data`. `EINVAL` if the page that has the first of them has not that many.
    pub(crate) fn read_at(&self, offset: usize, data: &mut [u8]) -> Result {
        let address = self.address(offset / PAGE_BYTES)?;
        let within = offset % PAGE_BYTES;
        if data.len() > PAGE_BYTES - within {
            return Err(EINVAL);
        }
        // SAFETY: The page has `PAGE_BYTES` bytes, and `within` is less.
        let address = unsafe { address.add(within) };
        // SAFETY: As in `write_at`: the page has at least `data.len()` bytes from `address` on.
        unsafe { core::ptr::copy_nonoverlapping(address, data.as_mut_ptr(), data.len()) };
        Ok(())
    }

    /// Returns the raw CRC-32 of the `bytes` bytes that start at page `index`, from `seed`. Pages that are
    /// not there are passed over.
    pub(crate) fn crc32(&self, seed: u32, index: usize, bytes: usize) -> u32 {
        let mut checksum = seed;
        let mut left = bytes;
        let mut index = index;
        while let Some(run) = self.pages.run(index, left).filter(|_| left > 0) {
            let address = run.address().cast();
            // SAFETY: The bytes of a run lie together, in the direct mapping.
            checksum = unsafe { dm_bindings::helper_crc32_le(checksum, address, run.bytes) };
            left -= run.bytes;
            index += run.bytes / PAGE_BYTES;
        }
        checksum
    }
}

/// Returns the raw CRC-32 of `data` from `seed`: polynomial 0xEDB88320, no inversion.
pub(crate) fn crc32(seed: u32, data: &[u8]) -> u32 {
    // SAFETY: `data` is valid for its length.
    unsafe { dm_bindings::helper_crc32_le(seed, data.as_ptr().cast(), data.len()) }
}

#[kunit_tests(dm_bow_buffer)]
mod tests {
    use super::*;

    /// Bit by bit, as the polynomial says.
    fn naive(seed: u32, data: impl Iterator<Item = u8>) -> u32 {
        data.fold(seed, |checksum, byte| {
            (0..8).fold(checksum ^ u32::from(byte), |value, _| {
                (value >> 1) ^ (0xEDB8_8320 & 0u32.wrapping_sub(value & 1))
            })
        })
    }

    fn pattern(length: usize) -> impl Iterator<Item = u8> {
        (0..length).map(|index| (index * 7 + index / 251) as u8)
    }

    #[test]
    fn checksums_are_what_the_log_says() {
        // The check value of CRC-32, which inverts before and after.
        assert_eq!(!crc32(!0, b"123456789"), 0xCBF4_3926);
        assert_eq!(crc32(5, b""), 5);
        assert_eq!(crc32(77, b"dm-bow"), naive(77, b"dm-bow".iter().copied()));
    }

    #[test]
    fn a_page_is_filled_up_with_zeroes() -> Result {
        // Two pages, or those of one of the kernel.
        const PAGES: usize = if SPLIT > 1 { 1 << SPLIT } else { 2 };
        let mut buffer = Buffer::new(2)?;
        let mut data = KVec::from_elem(0xFFu8, PAGE_BYTES, GFP_KERNEL)?;
        buffer.read(1, &mut data)?;
        assert!(data.iter().all(|&byte| byte == 0));
        data.iter_mut().for_each(|byte| *byte = 0xFF);
        buffer.fill(1, &data)?;
        buffer.fill(1, b"short")?;
        buffer.read(1, &mut data)?;
        assert!(data.starts_with(b"short\0"));
        assert!(data.iter().skip(5).all(|&byte| byte == 0));
        buffer.copy(1, 0)?;
        buffer.write_at(1, b"ow")?;
        buffer.write_at(0, b"n")?;
        assert!(buffer.write_at(PAGE_BYTES - 1, b"ow").is_err());
        buffer.write(0, b"ne")?;
        buffer.write_at(2, b"w")?;
        buffer.read(0, &mut data)?;
        assert!(data.starts_with(b"newrt\0"));
        assert!(buffer.copy(0, 0).is_err());
        assert!(buffer.copy(0, PAGES).is_err());
        assert!(buffer.fill(PAGES, b"").is_err());
        assert!(buffer.read(PAGES, &mut data).is_err());
        assert!(buffer.read(0, &mut data).is_ok());
        Ok(())
    }

    #[test]
    fn a_checksum_goes_over_pages_and_chunks() -> Result {
        const PAGES: usize = 2 << (CHUNK_ORDER + SPLIT);
        let mut buffer = Buffer::new(PAGES)?;
        let mut page = KVec::with_capacity(PAGE_BYTES, GFP_KERNEL)?;
        for index in 0..PAGES {
            page.clear();
            for byte in pattern(PAGES * PAGE_BYTES)
                .skip(index * PAGE_BYTES)
                .take(PAGE_BYTES)
            {
                page.push(byte, GFP_KERNEL)?;
            }
            buffer.fill(index, &page)?;
        }
        // Around the end of the first chunk.
        let first = PAGES / 2 - 1;
        for bytes in [0, 1, 512, PAGE_BYTES, PAGE_BYTES + 512, 3 * PAGE_BYTES] {
            let wanted = pattern(PAGES * PAGE_BYTES)
                .skip(first * PAGE_BYTES)
                .take(bytes);
            assert_eq!(buffer.crc32(9, first, bytes), naive(9, wanted));
        }
        Ok(())
    }
}
