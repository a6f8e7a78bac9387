// SPDX-License-Identifier: GPL-2.0

//! Making allocations fail, for tests that sweep every one of them.
//!
//! Each thread counts its own allocations, so that tests may run side by side.
//!
//! ```
//! use kernel::{inject, prelude::*};
//!
//! let mut failed = 0;
//! for nth in 0.. {
//!     let injection = inject::fail_nth(nth);
//!     let result = KBox::new(1, GFP_KERNEL);
//!
//!     if !injection.hit() {
//!         assert!(result.is_ok());
//!         break;
//!     }
//!     assert!(result.is_err());
//!     failed += 1;
//! }
//! assert_eq!(failed, 1);
//! ```

use std::cell::Cell;

thread_local! {
    /// Allocations that still succeed before one fails; `None`: all do.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
    /// True if all allocations fail.
    static ALL: Cell<bool> = const { Cell::new(false) };
    /// Allocations so far.
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// Lets the allocation after the next `n` of this thread fail, once, until the guard is dropped.
#[must_use = "dropping the guard ends the injection"]
pub fn fail_nth(n: u64) -> Injection {
    LEFT.set(Some(n));
    Injection(())
}

/// Lets all allocations of this thread fail, until the guard is dropped.
#[must_use = "dropping the guard ends the injection"]
pub fn fail_all() -> Injection {
    ALL.set(true);
    Injection(())
}

/// Returns the number of allocations that this thread has made so far, failed ones included.
pub fn allocations() -> u64 {
    COUNT.get()
}

/// An injection under way: see [`fail_nth`] and [`fail_all`].
#[derive(Debug)]
pub struct Injection(());

impl Injection {
    /// Returns whether an allocation has been made to fail.
    pub fn hit(&self) -> bool {
        LEFT.get().is_none()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        LEFT.set(None);
        ALL.set(false);
    }
}

/// Counts an allocation and says whether it is to fail.
pub(crate) fn fails() -> bool {
    COUNT.set(COUNT.get() + 1);
    match LEFT.get() {
        None => ALL.get(),
        Some(0) => {
            LEFT.set(None);
            true
        }
        Some(left) => {
            LEFT.set(Some(left - 1));
            false
        }
    }
}
