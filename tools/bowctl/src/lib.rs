// SPDX-License-Identifier: GPL-2.0

//! `bowctl`: take a checkpoint of a dm-bow device, keep it or roll it back.
//!
//! The library is the tool without its command line, so that tests can drive it:
//!
//! - [`device`]: a device as a recovery sees it, how one is opened, and several transfers at a time;
//! - [`recovery`]: checking a log, restoring the old state, keeping the new one;
//! - [`signature`]: layers and file systems that must not be on a bow device;
//! - [`users`]: who uses a block device or image;
//! - [`live`]: device-mapper devices with a bow target, through sysfs and `dmsetup`;
//! - [`mount`]: mounts, in every namespace; [`stack`]: what stands on a device; [`freeze`]: trimming
//!   and freezing a file system; [`ext`]: facts about a mounted ext4, from its [`superblock`];
//! - [`survey`]: what each sector of a device with a checkpoint holds; [`picture`] draws that;
//!   [`changes`]: what differs from what was saved; [`files`]: the files that have it;
//! - [`root`]: dm-bow under the root file system: the boot, updates and their history;
//! - [`swap_back`]: rolling a live device back while the machine runs;
//! - [`lock`]: the lock on a whole disk that keeps udev away;
//! - [`commands`]: one file for each command;
//! - [`mod@error`]: errors with their exit codes and advice.

#![forbid(unsafe_code)]

pub mod changes;
pub mod cli;
pub mod commands;
pub mod crc;
pub mod device;
pub mod error;
pub mod ext;
pub mod files;
pub mod freeze;
pub mod live;
pub mod lock;
pub mod mount;
pub mod picture;
pub mod progress;
pub mod recovery;
pub mod report;
pub mod root;
pub mod signature;
pub mod stack;
pub mod superblock;
pub mod survey;
pub mod swap_back;
pub mod users;
pub mod words;
