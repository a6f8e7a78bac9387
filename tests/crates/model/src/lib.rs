// SPDX-License-Identifier: GPL-2.0

//! For tests: what dm-bow leaves on a disk, and disks that lose power.
//!
//! - [`history`]: a bow device in user space, as naive as can be. It shares no code with the decision
//!   layer, and knows what the device must hold after a rollback and after a commit.
//! - [`mod@log`]: the log that such a device writes, byte by byte as the format's description has it.
//! - [`disk`]: a disk in memory that records what is written to it.
//! - [`mod@restore`]: a restore as `bowctl` does it.
//! - [`crash`]: what a power cut may leave of such a recording.
//! - [`hostile`]: logs that somebody made up, and what must hold of any bytes on a disk.
//! - [`strategy`]: histories for property tests.

pub mod crash;
pub mod disk;
pub mod history;
pub mod hostile;
pub mod log;
pub mod restore;
pub mod strategy;
