// SPDX-License-Identifier: GPL-2.0

//! dm-bow under the root file system.
//!
//! - [`mod@decide`]: what an initramfs does about the root partition;
//! - [`config`]: the configuration, and the partition;
//! - [`layout`]: what is in the way of dm-bow under the root file system;
//! - [`initramfs`]: images of the initramfs, and what they must have;
//! - [`update`]: an update that is under way, and the history of those that have ended;
//! - [`begin`]: beginning, arming and ending an update of the root file system;
//! - [`next_boot`]: what the log says is to be done at the next boot;
//! - [`health`]: checks of an updated system;
//! - [`grub`]: the environment block of GRUB;
//! - [`rescue`]: what GRUB boots while a rollback is under way;
//! - [`marks`]: files in /run that tell the parts of a boot about each other;
//! - [`console`]: questions at the console;
//! - [`partition`]: the partition of the root file system, and how it is found;
//! - [`packages`]: what apt would change, and whether dpkg has changed anything;
//! - [`programs`]: other programs;
//! - [`reboot`]: ways to reboot;
//! - [`units`]: units of systemd that check, keep and undo an update.

pub mod begin;
pub mod config;
pub mod console;
pub mod decide;
pub mod grub;
pub mod health;
pub mod initramfs;
pub mod layout;
pub mod marks;
pub mod next_boot;
pub mod packages;
pub mod partition;
pub mod programs;
pub mod reboot;
pub mod rescue;
pub mod units;
pub mod update;

use std::path::PathBuf;

use crate::live::Live;

/// Device-mapper name of the device under the root file system.
pub const NAME: &str = "bow-root";

/// Directory of kernels and their initramfs.
pub const BOOT: &str = "/boot";

/// Directory for what is kept about updates, on the root file system.
pub const STATE: &str = "/var/lib/bow";

/// Returns the live device under the root file system, if there is one.
pub fn live() -> Option<Live> {
    Live::all().into_iter().find(|live| live.name == NAME)
}

/// Returns the path of the device under the root file system.
pub fn device() -> PathBuf {
    PathBuf::from("/dev/mapper").join(NAME)
}
