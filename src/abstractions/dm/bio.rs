// SPDX-License-Identifier: GPL-2.0

//! Bios that device mapper gives to a target.
//!
//! C header: [`include/linux/device-mapper.h`](srctree/include/linux/device-mapper.h)

use crate::abstractions::{
    bindings as dm_bindings,
    block::bio::{
        Operation,
        Status, //
    },
};
use core::{
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};
use kernel::{
    bindings,
    block::SECTOR_SIZE, //
};

/// Bio that device mapper gave to a target, which owns it until the target gives it back: as the return value
/// of `map`, with [`submit`](Self::submit) or with [`end`](Self::end). Dropping a bio ends it with an I/O
/// error, so that none can be lost. It is directed to the device of its table, which stays open until the bio
/// has ended. `D` is the target's data of each bio.
///
/// # Invariants
///
/// The pointer is to a clone of device mapper's with per-bio data of type `D`, which is initialised, and nobody
/// else uses it.
pub(crate) struct Bio<D>(NonNull<bindings::bio>, PhantomData<fn(D) -> D>);

// SAFETY: A bio, and its data, may be handled by any thread, one at a time.
unsafe impl<D: Send> Send for Bio<D> {}

impl<D> Bio<D> {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// The type invariants hold, and the caller does not use the pointer any more.
    pub(super) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(bio, PhantomData)
    }

    /// Returns the C object without ending the bio.
    pub(super) fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).0.as_ptr()
    }

    fn raw(&self) -> &bindings::bio {
        // SAFETY: By the type invariants the pointer is valid, and shared with nobody.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut bindings::bio {
        // SAFETY: By the type invariants the pointer is valid, and shared with nobody.
        unsafe { self.0.as_mut() }
    }

    /// Returns the operation.
    #[inline]
    pub(crate) fn operation(&self) -> Operation {
        Operation::of(self.raw().bi_opf, self.raw().bi_iter.bi_size)
    }

    /// Clears REQ_POLLED: other bios may wait for this one, so its completion must not depend on polling.
    #[inline]
    pub(crate) fn clear_polled(&mut self) {
        self.raw_mut().bi_opf &= !dm_bindings::HELPER_REQ_POLLED;
    }

    /// Returns whether the bio is REQ_NOWAIT: its submitter must not be made to wait.
    #[inline]
    pub(crate) fn is_nowait(&self) -> bool {
        self.raw().bi_opf & dm_bindings::HELPER_REQ_NOWAIT != 0
    }

    /// Clears REQ_NOWAIT, for a bio that another thread than its submitter's, which can wait, will submit.
    #[inline]
    pub(crate) fn clear_nowait(&mut self) {
        self.raw_mut().bi_opf &= !dm_bindings::HELPER_REQ_NOWAIT;
    }

    /// Returns the first sector, of the mapped device until the target changes it.
    #[inline]
    pub(crate) fn sector(&self) -> u64 {
        self.raw().bi_iter.bi_sector
    }

    /// Returns the sectors that the operation is about.
    #[inline]
    pub(crate) fn span(&self) -> core::ops::Range<u64> {
        let sectors = u64::from(self.raw().bi_iter.bi_size / SECTOR_SIZE);
        self.sector()..self.sector().wrapping_add(sectors)
    }

    /// Directs the bio to another sector.
    #[inline]
    pub(crate) fn set_sector(&mut self, sector: u64) {
        self.raw_mut().bi_iter.bi_sector = sector;
    }

    /// Returns whether this is the bio of that C object.
    #[inline]
    pub(super) fn is(&self, bio: NonNull<bindings::bio>) -> bool {
        self.0 == bio
    }

    /// Returns the target's data of this bio.
    #[inline]
    pub(crate) fn data(&mut self) -> &mut D {
        // SAFETY: By the type invariants there is such data.
        let data = unsafe { per_bio_data::<D>(self.0.as_ptr()) };
        // SAFETY: By the type invariants the data is initialised, and nobody else uses it.
        unsafe { &mut *data }
    }

    /// Submits the bio to the device of its table; not within `map`, which returns the bio instead. Process
    /// context.
    pub(crate) fn submit(self) {
        // SAFETY: By the type invariants this is device mapper's clone, and registrations set
        // `accounts_remapped_io`.
        unsafe { dm_bindings::dm_submit_bio_remap(self.into_raw(), core::ptr::null_mut()) };
    }

    /// Ends the bio. Any context.
    pub(crate) fn end(mut self, status: Status) {
        self.raw_mut().bi_status = status.0;
        // SAFETY: By the type invariants the bio is the target's to end.
        unsafe { bindings::bio_endio(self.into_raw()) };
    }
}

impl<D> Drop for Bio<D> {
    fn drop(&mut self) {
        self.raw_mut().bi_status = Status::IO_ERROR.0;
        // SAFETY: By the type invariants the bio is the target's to end.
        unsafe { bindings::bio_endio(self.0.as_ptr()) };
    }
}

/// Bio that is being mapped, for as long as `map` runs. Nobody gets at the bio inside to put another one in
/// its place.
///
/// # Invariants
///
/// `data` is the address of the target's data of `bio`.
pub(crate) struct NewBio<'a, D> {
    bio: Bio<D>,
    data: NonNull<D>,
    _map: PhantomData<&'a mut ()>,
}

impl<D> NewBio<'_, D> {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// The type invariants hold.
    #[inline]
    pub(super) unsafe fn new(bio: Bio<D>, data: NonNull<D>) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            bio,
            data,
            _map: PhantomData,
        }
    }

    /// Clears REQ_POLLED, as [`Bio::clear_polled`] does.
    #[inline]
    pub(crate) fn clear_polled(&mut self) {
        self.bio.clear_polled();
    }

    /// Returns the bio, which may be kept after `map` has returned.
    #[inline]
    pub(crate) fn keep(self) -> Bio<D> {
        self.bio
    }

    /// Returns the bio as [`keep`](Self::keep) does, with `data` as the target's data of it.
    #[inline]
    pub(crate) fn keep_with(mut self, data: D) -> Bio<D> {
        // SAFETY: By the invariants of both types the data is initialised, and nobody else uses it.
        let place = unsafe { self.data.as_mut() };
        *place = data;
        self.bio
    }

    /// Cuts the bio after `sectors` sectors; device mapper sends the remainder as another bio. Does nothing if
    /// the bio is not longer. Not on a flush, and not where the target asks for duplicates or atomic writes.
    pub(crate) fn accept_partial(&mut self, sectors: u64) {
        let span = self.span();
        if sectors > 0 && sectors < span.end - span.start {
            // SAFETY: This is device mapper's clone, which is being mapped: the value does not outlive the call
            // of `map`. Registrations ask for one bio of each operation, so it is no duplicate, and say nothing
            // of atomic writes, so it is none.
            unsafe { dm_bindings::dm_accept_partial_bio(self.bio.0.as_ptr(), sectors as u32) };
        }
    }
}

impl<D> core::ops::Deref for NewBio<'_, D> {
    type Target = Bio<D>;

    #[inline]
    fn deref(&self) -> &Bio<D> {
        &self.bio
    }
}

/// Returns the address of the target's data of a bio.
///
/// # Safety
///
/// `bio` is a clone of device mapper's for a target whose data is of type `D`.
#[inline]
pub(super) unsafe fn per_bio_data<D>(bio: *mut bindings::bio) -> *mut D {
    // SAFETY: By the safety requirements; the size is the one that the registration asks for.
    unsafe { dm_bindings::dm_per_bio_data(bio, size_of::<D>()) }.cast()
}
