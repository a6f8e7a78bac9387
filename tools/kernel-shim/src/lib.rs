// SPDX-License-Identifier: GPL-2.0

//! Stand-in for the Rust-for-Linux `kernel` crate on a host.
//!
//! The decision layer (`src/decisions`) is compiled twice from the same files: into the kernel
//! module, against the real `kernel` crate, and into the host crate `bow-decisions`, against this
//! one. So what is here has the real crate's names, signatures and behaviour, and is no more than
//! what the decision layer uses, and what `bowctl` decides by itself: collections whose allocations
//! can fail, error codes, a few macros. Only [`inject`] has no counterpart in the kernel.
//!
//! The real one is `rust/kernel/` of a Linux source tree; this was written from that of 7.3.

#![forbid(unsafe_code)]

pub mod alloc;
pub mod error;
pub mod inject;
pub mod rbtree;

/// Formatting, as in the real crate `core::fmt` with a few additions of its own.
pub mod fmt {
    pub use core::fmt::*;
}

/// Names that kernel code imports with one line.
pub mod prelude {
    pub use core::mem::{align_of, align_of_val, size_of, size_of_val};
    pub use core::pin::Pin;

    pub use crate::alloc::{flags::*, Box, KBox, KVBox, KVVec, KVec, VBox, VVec, Vec};
    pub use crate::error::{code::*, Error, Result};
    pub use crate::{fmt, static_assert};
}

/// As `format_args!`; the real one formats with the traits of [`fmt`](mod@fmt), of which the types
/// of the decision layer implement those that are not `core`'s.
#[macro_export]
macro_rules! fmt {
    ($($input:tt)*) => { ::core::format_args!($($input)*) };
}

/// Fails to compile unless the condition, a constant, holds.
#[macro_export]
macro_rules! static_assert {
    ($condition:expr $(, $arg:literal)? $(,)?) => {
        const _: () = ::core::assert!($condition $(, $arg)?);
    };
}
