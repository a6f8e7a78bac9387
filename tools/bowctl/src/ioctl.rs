// SPDX-License-Identifier: GPL-2.0

//! The three system calls that have no safe wrapper: `FITRIM`, `FIFREEZE`, `FITHAW`.
//!
//! All of `bowctl`'s `unsafe` is here.

#![expect(unsafe_code, reason = "rustix has no safe wrapper for these ioctls")]

use std::fs::File;
use std::io;

use rustix::ioctl::{ioctl, opcode, NoArg, Updater};

/// `struct fstrim_range` of `linux/fs.h`. All in bytes.
#[repr(C)]
struct TrimRange {
    start: u64,
    len: u64,
    minlen: u64,
}

const FIFREEZE: u32 = opcode::read_write::<i32>(b'X', 119);
const FITHAW: u32 = opcode::read_write::<i32>(b'X', 120);
const FITRIM: u32 = opcode::read_write::<TrimRange>(b'X', 121);

/// Discards all free space of the file system that `root` is on. Returns how many bytes.
pub(crate) fn trim(root: &File) -> io::Result<u64> {
    let mut range = TrimRange {
        start: 0,
        len: u64::MAX,
        minlen: 0,
    };

    // SAFETY: `FITRIM` reads and writes one `struct fstrim_range`, which `TrimRange` is.
    unsafe { ioctl(root, Updater::<FITRIM, TrimRange>::new(&mut range))? };
    Ok(range.len)
}

/// Freezes the file system that `root` is on: it is made clean on disk, and writers wait.
pub(crate) fn freeze(root: &File) -> io::Result<()> {
    // SAFETY: `FIFREEZE` does not look at its argument.
    unsafe { ioctl(root, NoArg::<FIFREEZE>::new())? };
    Ok(())
}

/// Ends a freeze.
pub(crate) fn thaw(root: &File) -> io::Result<()> {
    // SAFETY: `FITHAW` does not look at its argument.
    unsafe { ioctl(root, NoArg::<FITHAW>::new())? };
    Ok(())
}
