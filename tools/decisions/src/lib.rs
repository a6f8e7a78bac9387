// SPDX-License-Identifier: GPL-2.0

//! The decision layer of dm-bow, built for a host.
//!
//! The very files that the kernel module is built from, `src/decisions/*.rs`, over a stand-in for
//! the `kernel` crate (`tools/kernel-shim`). `bowctl` reads logs with them; `tests/crates/decisions`
//! tests them.
//!
//! - What is on the disk: [`log`], [`free_map`], [`mod@cover`]; the writing half of the log: [`log_block`].
//! - What a log is good for: [`check`], over [`relocations`]; [`resume`].
//! - What the target does: [`checkpoint`], [`batch`], [`ranges`], [`free_space`], [`block_size`], [`state`],
//!   [`table`].

// The first two lints look at what a crate exports, and the module, for which these files are written,
// exports nothing. Its documentation has private items too, so the public ones link to them.
#![allow(
    clippy::len_without_is_empty,
    clippy::new_without_default,
    rustdoc::private_intra_doc_links
)]

#[path = "../../../src/decisions/batch.rs"]
pub mod batch;
#[path = "../../../src/decisions/begin.rs"]
pub mod begin;
#[path = "../../../src/decisions/block_size.rs"]
pub mod block_size;
#[path = "../../../src/decisions/chain.rs"]
pub mod chain;
#[path = "../../../src/decisions/check.rs"]
pub mod check;
#[path = "../../../src/decisions/check_error.rs"]
pub mod check_error;
#[path = "../../../src/decisions/checkpoint.rs"]
pub mod checkpoint;
#[path = "../../../src/decisions/cover.rs"]
pub mod cover;
#[path = "../../../src/decisions/discards.rs"]
mod discards;
#[path = "../../../src/decisions/free_map.rs"]
pub mod free_map;
#[path = "../../../src/decisions/free_space.rs"]
pub mod free_space;
#[path = "../../../src/decisions/free_writes.rs"]
mod free_writes;
#[path = "../../../src/decisions/grants.rs"]
mod grants;
#[path = "../../../src/decisions/log.rs"]
pub mod log;
#[path = "../../../src/decisions/log_block.rs"]
pub mod log_block;
#[path = "../../../src/decisions/low_water.rs"]
pub mod low_water;
#[path = "../../../src/decisions/message.rs"]
pub mod message;
#[path = "../../../src/decisions/number.rs"]
mod number;
#[path = "../../../src/decisions/ranges.rs"]
pub mod ranges;
#[path = "../../../src/decisions/relocations.rs"]
pub mod relocations;
#[path = "../../../src/decisions/resume.rs"]
pub mod resume;
#[path = "../../../src/decisions/space.rs"]
mod space;
#[path = "../../../src/decisions/spans.rs"]
mod spans;
#[path = "../../../src/decisions/state.rs"]
pub mod state;
#[path = "../../../src/decisions/stock.rs"]
pub mod stock;
#[path = "../../../src/decisions/table.rs"]
pub mod table;
#[path = "../../../src/decisions/window.rs"]
pub mod window;
