// SPDX-License-Identifier: GPL-2.0

//! The kernel's allocators, as far as they differ for those who use them: in how much they give.

use super::AllocError;
use crate::inject;

mod private {
    pub trait Sealed {}
}

/// An allocator. Unlike the real one it only says whether memory may be had.
pub trait Allocator: private::Sealed {
    /// The most bytes that one allocation gives.
    const MAX: usize;

    /// Counts an allocation of `bytes`, and lets it fail if it is too large or a test says so.
    #[doc(hidden)]
    fn allow(bytes: usize) -> Result<(), AllocError> {
        if inject::fails() || bytes > Self::MAX {
            return Err(AllocError);
        }
        Ok(())
    }
}

/// Physically contiguous memory, at most `KMALLOC_MAX_SIZE` of it.
#[derive(Debug)]
pub struct Kmalloc;

/// Virtually contiguous memory.
#[derive(Debug)]
pub struct Vmalloc;

/// [`Kmalloc`], and where that does not give, [`Vmalloc`].
#[derive(Debug)]
pub struct KVmalloc;

impl private::Sealed for Kmalloc {}
impl private::Sealed for Vmalloc {}
impl private::Sealed for KVmalloc {}

impl Allocator for Kmalloc {
    /// `KMALLOC_MAX_SIZE` on x86.
    const MAX: usize = 4 << 20;
}

impl Allocator for Vmalloc {
    const MAX: usize = isize::MAX as usize;
}

impl Allocator for KVmalloc {
    /// `INT_MAX`, beyond which `kvmalloc` refuses.
    const MAX: usize = i32::MAX as usize;
}
