// SPDX-License-Identifier: GPL-2.0

//! Decisions of the target, without their execution.
//!
//! There is no I/O here, no lock and no `unsafe`. Of the kernel crate there are allocation, red-black trees,
//! error codes and formatting, for which the host has a stand-in. So the same files are built on the host,
//! where they are tested, fuzzed and shared with `bowctl`.

pub(crate) mod batch;
pub(crate) mod begin;
pub(crate) mod block_size;
pub(crate) mod chain;
#[expect(dead_code, reason = "what checks saved data is for user space")]
mod check;
mod check_error;
pub(crate) mod checkpoint;
pub(crate) mod cover;
mod discards;
pub(crate) mod free_map;
pub(crate) mod free_space;
mod free_writes;
mod grants;
#[expect(dead_code, reason = "what reads logs is for user space")]
pub(crate) mod log;
#[expect(dead_code, reason = "the getters are for user space")]
mod log_block;
pub(crate) mod low_water;
pub(crate) mod message;
mod number;
pub(crate) mod ranges;
mod relocations;
pub(crate) mod resume;
mod space;
mod spans;
pub(crate) mod state;
mod stock;
pub(crate) mod table;
pub(crate) mod window;
