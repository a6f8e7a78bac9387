// SPDX-License-Identifier: GPL-2.0

//! The bits of 32 blocks of the [map of writable blocks](super::writable_map), which says what they mean.
//!
//! All bits of a word change in one atomic operation, which orders nothing else: a write that was let pass is
//! waited for by its ticket, whose taking and giving back are full barriers. `tests/crates/memory-order` tries what
//! writers and the worker do to a word in every order.

use kernel::sync::atomic::{
    ordering::Relaxed,
    Atomic, //
};

/// Number of blocks whose bits are in a word.
pub(super) const WORD_BITS: u64 = u32::BITS as u64;

/// Bits of [`WORD_BITS`] blocks: the written bits in the low half, the fresh bits in the high half.
pub(super) struct Word(Atomic<u64>);

/// Both kinds of bits of the blocks of a [`Word`].
#[derive(Clone, Copy)]
struct Bits {
    written: u32,
    fresh: u32,
}

impl Bits {
    #[inline]
    const fn from_raw(raw: u64) -> Self {
        Self {
            written: raw as u32,
            fresh: (raw >> WORD_BITS) as u32,
        }
    }

    #[inline]
    const fn to_raw(self) -> u64 {
        self.written as u64 | ((self.fresh as u64) << WORD_BITS)
    }

    /// Returns how many blocks of `mask` wait for their first write.
    #[inline]
    fn waiting(self, mask: u32) -> FirstWrites {
        let waiting = self.fresh & mask;
        let prefetched = self.written & waiting;
        // Mostly there is one block, and counting, for which there is no instruction, takes longer than looking.
        let count = |bits: u32| match bits {
            0 => 0,
            _ if bits.is_power_of_two() => 1,
            _ => u64::from(bits.count_ones()),
        };
        FirstWrites {
            prefetched: count(prefetched),
            granted: count(waiting & !prefetched),
        }
    }
}

/// Number of blocks that had their first write, of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FirstWrites {
    /// Prefetched blocks.
    pub(super) prefetched: u64,
    /// Granted blocks.
    pub(super) granted: u64,
}

impl FirstWrites {
    #[inline]
    pub(super) fn add(&mut self, other: Self) {
        self.prefetched += other.prefetched;
        self.granted += other.granted;
    }
}

impl Word {
    /// Creates a word of blocks that are not writable.
    pub(super) fn new() -> Self {
        Self(Atomic::new(0))
    }

    #[inline]
    fn load(&self) -> Bits {
        Bits::from_raw(self.0.load(Relaxed))
    }

    /// Replaces the bits by what `change` makes of them, unless that is [`None`]. Returns the old bits, and
    /// whether they were replaced.
    #[inline]
    fn update(&self, change: impl Fn(Bits) -> Option<Bits>) -> (Bits, bool) {
        let mut old = self.load();
        loop {
            let Some(new) = change(old) else {
                return (old, false);
            };
            match self.0.cmpxchg(old.to_raw(), new.to_raw(), Relaxed) {
                Ok(_) => return (old, true),
                Err(now) => old = Bits::from_raw(now),
            }
        }
    }

    /// Lets a write to the blocks of `mask` pass if all of them are writable. Returns how many of them had their
    /// first write with that.
    #[inline]
    pub(super) fn admit(&self, mask: u32) -> Option<FirstWrites> {
        let (old, changed) = self.update(|old| {
            let is_writable = (old.written | old.fresh) & mask == mask;
            (is_writable && old.fresh & mask != 0).then_some(Bits {
                written: old.written | mask,
                fresh: old.fresh & !mask,
            })
        });
        if changed {
            return Some(old.waiting(mask));
        }
        (old.written & mask == mask).then(FirstWrites::default)
    }

    /// Makes the blocks of `mask` not writable. Returns how many of them were waiting for their first write.
    pub(super) fn clear(&self, mask: u32) -> FirstWrites {
        let (old, _) = self.update(|old| {
            Some(Bits {
                written: old.written & !mask,
                fresh: old.fresh & !mask,
            })
        });
        old.waiting(mask)
    }

    /// Makes the blocks of `mask` writable. Those that are granted are so already.
    pub(super) fn set(&self, mask: u32) {
        self.update(|old| {
            Some(Bits {
                written: old.written | mask & !old.fresh,
                ..old
            })
        });
    }

    /// Makes those blocks of `mask` that are writable prefetched.
    pub(super) fn set_prefetched(&self, mask: u32) {
        self.update(|old| {
            Some(Bits {
                fresh: old.fresh | mask & old.written,
                ..old
            })
        });
    }

    /// Makes those blocks of `mask` that are not writable granted, and returns them.
    pub(super) fn set_granted(&self, mask: u32) -> u32 {
        let (old, _) = self.update(|old| {
            Some(Bits {
                fresh: old.fresh | mask & !old.written,
                ..old
            })
        });
        mask & !old.written & !old.fresh
    }

    /// Returns the blocks that are granted.
    pub(super) fn granted(&self) -> u32 {
        let bits = self.load();
        bits.fresh & !bits.written
    }

    /// Makes the blocks of `mask` not writable if all of them are still granted, and returns whether they were.
    pub(super) fn take_back(&self, mask: u32) -> bool {
        let (_, is_taken) = self.update(|old| {
            (old.fresh & !old.written & mask == mask).then_some(Bits {
                fresh: old.fresh & !mask,
                ..old
            })
        });
        is_taken
    }
}
