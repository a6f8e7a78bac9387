// SPDX-License-Identifier: GPL-2.0

//! Lists of bios that device mapper gave to a target.

use super::bio::Bio;
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    prelude::*, //
};

/// List of bios, first in, first out, linked through the bios themselves. Dropping it ends them with I/O
/// errors.
///
/// # Invariants
///
/// `head` and `tail` are the ends of a list linked by `bi_next` of bios that the list owns, or both
/// null; `len` is how many they are.
pub(crate) struct BioList<D> {
    head: *mut bindings::bio,
    tail: *mut bindings::bio,
    len: usize,
    _data: PhantomData<fn(D) -> D>,
}

// SAFETY: The list owns its bios, which may be handled by any thread.
unsafe impl<D: Send> Send for BioList<D> {}

impl<D> BioList<D> {
    /// Creates an empty list.
    pub(crate) const fn new() -> Self {
        // INVARIANT: Both are null.
        Self {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
            len: 0,
            _data: PhantomData,
        }
    }

    /// Returns the number of bios.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds a bio as the last.
    pub(crate) fn push(&mut self, bio: Bio<D>) {
        let raw = bio.into_raw();
        // SAFETY: The list owns `raw` now.
        unsafe { (*raw).bi_next = core::ptr::null_mut() };
        self.link(raw, raw, 1);
    }

    /// Adds all of `other` behind the last.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if !other.is_empty() {
            self.link(other.head, other.tail, other.len);
            other.head = core::ptr::null_mut();
            other.tail = core::ptr::null_mut();
            other.len = 0;
        }
    }

    fn link(&mut self, head: *mut bindings::bio, tail: *mut bindings::bio, len: usize) {
        if self.head.is_null() {
            self.head = head;
        } else {
            // SAFETY: By the type invariants the tail is valid and owned by the list.
            unsafe { (*self.tail).bi_next = head };
        }
        self.tail = tail;
        // There are not so many bios in all of memory.
        self.len = self.len.wrapping_add(len);
    }

    /// Takes out the first bio.
    pub(crate) fn pop(&mut self) -> Option<Bio<D>> {
        let first = NonNull::new(self.head)?;
        // SAFETY: By the type invariants the head is valid and owned by the list.
        let next = unsafe { &mut (*first.as_ptr()).bi_next };
        self.head = core::mem::replace(next, core::ptr::null_mut());
        if self.head.is_null() {
            self.tail = core::ptr::null_mut();
        }
        self.len = self.len.wrapping_sub(1);
        // SAFETY: The list owned it, and it came from a `Bio<D>`.
        Some(unsafe { Bio::from_raw(first) })
    }
}

impl<D> Drop for BioList<D> {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

#[kunit_tests(dm_bow_bio_list)]
mod tests {
    use super::*;

    type Bios = BioList<()>;

    /// Bios that are in no list, and never reach a device.
    fn bios<const N: usize>() -> Result<KBox<[bindings::bio; N]>> {
        Ok(KBox::new(
            core::array::from_fn(|_| bindings::bio::default()),
            GFP_KERNEL,
        )?)
    }

    fn push(list: &mut Bios, bio: &mut bindings::bio) {
        // SAFETY: Nobody but the list uses it, and `pops` takes it out without ending it.
        list.push(unsafe { Bio::from_raw(NonNull::from(bio)) });
    }

    /// Empties the list, and says whether these were in it, in that order.
    fn pops(list: &mut Bios, wanted: &[bindings::bio]) -> bool {
        let mut wanted = wanted.iter();
        let mut good = true;
        while let Some(bio) = list.pop() {
            let raw = bio.into_raw();
            // SAFETY: It was pushed by `push`, and is in no list any more.
            good &= unsafe { (*raw).bi_next.is_null() };
            good &= wanted
                .next()
                .is_some_and(|bio| core::ptr::eq(raw.cast_const(), bio));
        }
        good && wanted.next().is_none() && list.is_empty()
    }

    #[test]
    fn first_in_first_out() -> Result {
        let mut bios = bios::<4>()?;
        let mut list = Bios::new();
        assert!(list.is_empty());
        assert!(list.pop().is_none());
        for _ in 0..2 {
            for bio in bios.iter_mut() {
                // As if it had been in another list.
                bio.bi_next = core::ptr::dangling_mut();
                push(&mut list, bio);
            }
            assert!(!list.is_empty());
            assert!(pops(&mut list, &*bios));
        }
        Ok(())
    }

    #[test]
    fn one_list_behind_another() -> Result {
        // So many in the first list, the rest in the second.
        for split in 0..=4 {
            let mut bios = bios::<4>()?;
            let (mut first, mut second) = (Bios::new(), Bios::new());
            for (index, bio) in bios.iter_mut().enumerate() {
                let list = if index < split {
                    &mut first
                } else {
                    &mut second
                };
                push(list, bio);
            }
            first.append(&mut second);
            let is_second_empty = second.is_empty() && second.pop().is_none();
            assert!(pops(&mut first, &*bios));
            assert!(is_second_empty);
        }
        Ok(())
    }
}
