// SPDX-License-Identifier: GPL-2.0

//! The tests of `src/decisions`: one file for each source file that is tested by itself, of the same name.
//! The other files are tested through those, most of them through `checkpoint`, which runs them on a `device`.
//!
//! The decision layer is compiled once more here, not linked, so that what it has for tests alone
//! (`cfg(test)`) is there.

#[cfg(test)]
#[path = "../../../../tools/decisions/src/lib.rs"]
pub mod decisions;

#[cfg(test)]
mod checkpoint;
#[cfg(test)]
mod cover;
#[cfg(test)]
mod device;
#[cfg(test)]
mod free_map;
#[cfg(test)]
mod free_space;
#[cfg(test)]
mod log;
#[cfg(test)]
mod low_water;
#[cfg(test)]
mod message;
#[cfg(test)]
mod ranges;
#[cfg(test)]
mod resume;
#[cfg(test)]
mod state;
#[cfg(test)]
mod table;
#[cfg(test)]
mod window;
