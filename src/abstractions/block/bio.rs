// SPDX-License-Identifier: GPL-2.0

//! Operations and statuses of bios, and the bios of the current thread.
//!
//! C headers: [`include/linux/bio.h`](srctree/include/linux/bio.h),
//! [`include/linux/blk_types.h`](srctree/include/linux/blk_types.h)

use crate::abstractions::bindings as dm_bindings;
use core::mem::MaybeUninit;
use kernel::{
    bindings,
    prelude::*, //
};

/// Operation of a bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Flushes the cache of the device, and nothing else.
    Flush,
    /// Reads.
    Read,
    /// Tells that the contents are not needed any more.
    Discard,
    /// Changes the contents: a write, or a write of zeroes.
    Write,
}

impl Operation {
    /// Returns the operation of a bio with flags `opf` and `size` bytes.
    #[inline]
    pub(in crate::abstractions) fn of(opf: u32, size: u32) -> Self {
        match opf & dm_bindings::HELPER_REQ_OP_MASK {
            dm_bindings::HELPER_REQ_OP_READ => Self::Read,
            _ if size == 0 => Self::Flush,
            dm_bindings::HELPER_REQ_OP_DISCARD => Self::Discard,
            _ => Self::Write,
        }
    }
}

/// Status with which a bio ends: a `blk_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(pub(in crate::abstractions) u8);

impl Status {
    /// Success.
    pub(crate) const OK: Self = Self(dm_bindings::HELPER_BLK_STS_OK);
    /// I/O error: EIO at the writer.
    pub(crate) const IO_ERROR: Self = Self(dm_bindings::HELPER_BLK_STS_IOERR);
    /// Refusal to wait: EAGAIN at the submitter.
    pub(crate) const AGAIN: Self = Self(dm_bindings::HELPER_BLK_STS_AGAIN);
    /// Lack of space: ENOSPC at the writer.
    pub(crate) const NO_SPACE: Self = Self(dm_bindings::HELPER_BLK_STS_NOSPC);

    /// Returns the status as a number that fits an atomic; 0 is success.
    pub(crate) fn as_raw(self) -> u32 {
        u32::from(self.0)
    }

    /// Returns the status of a number that [`as_raw`](Self::as_raw) made; an I/O error for others.
    pub(crate) fn from_raw(raw: u32) -> Self {
        u8::try_from(raw).map_or(Self::IO_ERROR, Self)
    }
}

/// Returns whether the current thread has no bio on its way through the block layer, so that a driver that is
/// given one may sleep until other bios have ended. Process context.
pub(crate) fn no_bio_is_pending() -> bool {
    // SAFETY: The function looks at the current thread only.
    unsafe { dm_bindings::helper_bio_list_is_empty() }
}

/// Runs `work` with the current thread's bios plugged: those that `work` submits are handed to drivers
/// together, neighbours merged, when `work` has returned or sleeps. Process context.
pub(crate) fn plugged<R>(work: impl FnOnce() -> R) -> R {
    let mut plug = MaybeUninit::<bindings::blk_plug>::uninit();
    // SAFETY: `plug` is memory for a `blk_plug`, which the function initialises; it stays where it is
    // until `blk_finish_plug` has taken the thread's pointer to it away, since nothing unwinds in the
    // kernel.
    unsafe { bindings::blk_start_plug(plug.as_mut_ptr()) };
    let result = work();
    // SAFETY: The plug was started above, on the same thread.
    unsafe { bindings::blk_finish_plug(plug.as_mut_ptr()) };
    result
}

#[kunit_tests(dm_bow_bio)]
mod tests {
    use super::*;

    #[test]
    fn a_status_survives_as_a_number() {
        for raw in 0..=255 {
            assert_eq!(Status(raw).as_raw(), u32::from(raw));
            assert!(Status::from_raw(Status(raw).as_raw()) == Status(raw));
        }
        assert_eq!(Status::OK.as_raw(), 0);
        assert!(Status::from_raw(256) == Status::IO_ERROR);
    }
}
