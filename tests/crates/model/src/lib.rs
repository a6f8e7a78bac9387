// SPDX-License-Identifier: GPL-2.0

//! For tests: what dm-bow leaves on a disk, and disks that lose power.
//!
//! - [`history`]: a bow device in user space, as naive as can be, that writes the log byte by byte
//!   as the format's description has it. It shares no code with the decision layer, and knows what
//!   the device must hold after a rollback and after a commit.
//! - [`disk`]: a disk in memory that records what is written to it.
//! - [`mod@restore`]: a restore as `bowctl` does it.
//! - [`crash`]: what a power cut may leave of such a recording.
//! - [`hostile`]: logs that somebody made up, and what must hold of any bytes on a disk.
//! - [`strategy`]: histories for property tests.

pub mod crash;
pub mod disk;
pub mod history;
pub mod hostile;
pub mod restore;
pub mod strategy;
