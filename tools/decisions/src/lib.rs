// SPDX-License-Identifier: GPL-2.0

//! The decision layer of dm-bow, built for a host.
//!
//! The very files that the kernel module is built from, `src/decisions/*.rs`, over a stand-in for
//! the `kernel` crate (`tools/kernel`). Here they are tested, and `bowctl` reads logs with them.

#[path = "../../../src/decisions/log.rs"]
pub mod log;
#[path = "../../../src/decisions/relocations.rs"]
pub mod relocations;
#[path = "../../../src/decisions/replay.rs"]
pub mod replay;
#[path = "../../../src/decisions/restore.rs"]
pub mod restore;
