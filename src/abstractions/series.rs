// SPDX-License-Identifier: GPL-2.0

//! Differences between the supported series of the kernel: interfaces of the kernel crate that one of them lacks.
//!
//! Kbuild looks which of them the kernel has, and names those in the configuration (`dm_bow_kernel_has_…`); no
//! version is compared anywhere. With the last series that lacks an interface, its stand-in goes
//! (Documentation/development.md).

#[cfg(dm_bow_kernel_has_srcu)]
pub(super) use kernel::{new_srcu, sync::Srcu};
#[cfg(not(dm_bow_kernel_has_srcu))]
pub(super) use stand_in::{new_srcu, Srcu};

/// As much of `kernel::sync::Srcu` as this crate uses, for kernels before 7.3.
#[cfg(not(dm_bow_kernel_has_srcu))]
mod stand_in {
    use super::super::bindings as dm_bindings;
    use kernel::{
        bindings,
        error::to_result,
        prelude::*,
        types::Opaque, //
    };

    /// Initialises an [`Srcu`]. All of them are of one lock class, that of the helper.
    macro_rules! new_srcu {
        ($name:literal) => {
            $crate::abstractions::series::Srcu::new()
        };
    }
    pub(in super::super) use new_srcu;

    /// Readers that may sleep and can be waited for. Drop waits for them, so it sleeps.
    ///
    /// # Invariants
    ///
    /// `inner` is a `srcu_struct` that was initialised and stays where it is.
    #[repr(transparent)]
    #[pin_data(PinnedDrop)]
    pub(in super::super) struct Srcu {
        #[pin]
        inner: Opaque<bindings::srcu_struct>,
    }

    // SAFETY: A `srcu_struct` belongs to no thread.
    unsafe impl Send for Srcu {}
    // SAFETY: Its functions may be called from several threads at once.
    unsafe impl Sync for Srcu {}

    impl Srcu {
        /// Creates one without readers.
        ///
        /// # Errors
        ///
        /// `ENOMEM`.
        pub(in super::super) fn new() -> impl PinInit<Self, Error> {
            try_pin_init!(Self {
                // INVARIANT: The helper has initialised what the pointer points to, or fails.
                inner <- Opaque::try_ffi_init(|srcu: *mut bindings::srcu_struct| {
                    // SAFETY: The memory is there, and nobody else knows of it yet.
                    to_result(unsafe { dm_bindings::helper_init_srcu_struct(srcu) })
                }),
            })
        }

        /// Waits for all readers that were there before the call. Sleeps.
        pub(in super::super) fn synchronize_expedited(&self) {
            // SAFETY: By the type invariants.
            unsafe { bindings::synchronize_srcu_expedited(self.inner.get()) };
        }
    }

    #[pinned_drop]
    impl PinnedDrop for Srcu {
        fn drop(self: Pin<&mut Self>) {
            // `cleanup_srcu_struct` leaves the structure as it is while readers are there, who would then use
            // memory that is free.
            // SAFETY: By the type invariants; new readers cannot come, since this is the only reference.
            unsafe { bindings::synchronize_srcu(self.inner.get()) };
            // SAFETY: As above, and nobody reads any more.
            unsafe { bindings::cleanup_srcu_struct(self.inner.get()) };
        }
    }
}
