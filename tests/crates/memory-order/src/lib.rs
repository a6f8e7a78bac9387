// SPDX-License-Identifier: GPL-2.0

//! The parts of `src/bow` that threads share without a lock, tried in every order that the memory model allows.
//!
//! [`flight`] and [`writable_word`] are the module's own files, over atomics whose orders loom tries
//! (`tests/crates/loom-kernel`). What waits for tickets is modelled, since that is SRCU's work: [`tickets`] says what
//! is relied on. C11's model, which loom has, promises less than the kernel's, so what holds here holds there.

// The files are written for the module, which uses all of them.
#![allow(
    dead_code,
    rustdoc::private_intra_doc_links,
    rustdoc::broken_intra_doc_links
)]

/// As much of `src/abstractions` as the files use.
mod abstractions {
    pub(crate) mod block {
        pub(crate) mod bio {
            /// Status of a bio that has ended.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) struct Status(u32);

            impl Status {
                pub(crate) const OK: Self = Self(0);
                pub(crate) const IOERR: Self = Self(10);

                pub(crate) fn from_raw(raw: u32) -> Self {
                    Self(raw)
                }

                pub(crate) fn as_raw(self) -> u32 {
                    self.0
                }
            }
        }
    }
}

use bow_decisions as decisions;

#[path = "../../../../src/bow/flight.rs"]
mod flight;
#[path = "../../../../src/bow/writable_word.rs"]
mod writable_word;

#[cfg(test)]
mod completions;
#[cfg(test)]
mod first_writes;
#[cfg(test)]
mod tickets;
