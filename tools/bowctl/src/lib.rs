// SPDX-License-Identifier: GPL-2.0

//! `bowctl`: take a checkpoint of a dm-bow device, keep it or roll it back.
//!
//! The library is the tool without its command line, so that tests can drive it:
//!
//! - [`device`]: a device as the repairs see it, and how one is opened;
//! - [`repair`]: checking a log, restoring the old state, keeping the new one. What is decided is
//!   decided by [`bow_decisions`], the code of the kernel module; here it is carried out;
//! - [`foreign`]: traces of writes that did not go through dm-bow; [`superblock`] reads those of
//!   ext2, ext3 and ext4 for it;
//! - [`signature`]: layers and file systems that must not be on a bow device;
//! - [`aftermath`]: dangers of a rollback that depend on the file system;
//! - [`users`]: who uses a block device or image;
//! - [`live`]: device-mapper devices with a bow target, through sysfs and `dmsetup`;
//! - [`mount`]: mounts, in every namespace; [`stack`]: what stands on a device; [`freeze`]: trimming
//!   and freezing a file system; [`ext`]: what only an ext4's superblock tells;
//! - [`lock`]: the lock on a whole disk that keeps udev away;
//! - [`commands`]: one file for each command;
//! - [`failure`]: errors with their exit codes and advice.

#![forbid(unsafe_code)]

pub mod aftermath;
pub mod cli;
pub mod commands;
pub mod crc;
pub mod device;
pub mod ext;
pub mod failure;
pub mod foreign;
pub mod freeze;
pub mod live;
pub mod lock;
pub mod mount;
pub mod progress;
pub mod repair;
pub mod report;
pub mod signature;
pub mod stack;
pub mod superblock;
pub mod users;
