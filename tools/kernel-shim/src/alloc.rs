// SPDX-License-Identifier: GPL-2.0

//! Fallible allocation, as `rust/kernel/alloc.rs`.

pub mod allocator;
pub mod kbox;
pub mod kvec;

pub use self::kbox::{Box, KBox, KVBox, VBox};
pub use self::kvec::{KVVec, KVec, VVec, Vec};

/// Indicates an allocation error.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AllocError;

/// Flags to be used when allocating memory. On a host they change nothing.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Flags(u32);

impl Flags {
    /// Checks whether `flags` is contained in `self`.
    pub fn contains(self, flags: Flags) -> bool {
        (self & flags) == flags
    }
}

impl core::ops::BitOr for Flags {
    type Output = Self;
    fn bitor(self, rhs: Self) -> Self::Output {
        Self(self.0 | rhs.0)
    }
}

impl core::ops::BitAnd for Flags {
    type Output = Self;
    fn bitand(self, rhs: Self) -> Self::Output {
        Self(self.0 & rhs.0)
    }
}

impl core::ops::Not for Flags {
    type Output = Self;
    fn not(self) -> Self::Output {
        Self(!self.0)
    }
}

/// Allocation flags: those that the real crate has, and no others.
pub mod flags {
    use super::Flags;

    const HIGH: u32 = 1 << 0;
    const IO: u32 = 1 << 1;
    const FS: u32 = 1 << 2;
    const ZERO: u32 = 1 << 3;
    const DIRECT_RECLAIM: u32 = 1 << 4;
    const KSWAPD_RECLAIM: u32 = 1 << 5;
    const NOWARN: u32 = 1 << 6;
    const ACCOUNT: u32 = 1 << 7;
    const RECLAIM: u32 = DIRECT_RECLAIM | KSWAPD_RECLAIM;

    /// Zeroes out the allocated memory.
    pub const __GFP_ZERO: Flags = Flags(ZERO);
    /// Suppresses allocation failure reports.
    pub const __GFP_NOWARN: Flags = Flags(NOWARN);
    /// Users can not sleep and need the allocation to succeed.
    pub const GFP_ATOMIC: Flags = Flags(HIGH | KSWAPD_RECLAIM);
    /// Typical for kernel-internal allocations.
    pub const GFP_KERNEL: Flags = Flags(RECLAIM | IO | FS);
    /// The same, except the allocation is accounted to kmemcg.
    pub const GFP_KERNEL_ACCOUNT: Flags = Flags(RECLAIM | IO | FS | ACCOUNT);
    /// For allocations that should not stall for direct reclaim, start physical I/O or use any
    /// filesystem callback.
    pub const GFP_NOWAIT: Flags = Flags(KSWAPD_RECLAIM | NOWARN);
}
