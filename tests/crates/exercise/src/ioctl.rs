// SPDX-License-Identifier: GPL-2.0

//! The two block-device ioctls that no crate has.
//!
//! All of `bow-exercise`'s `unsafe` is here.

#![expect(unsafe_code, reason = "rustix has no safe wrapper for these ioctls")]

use rustix::io::Errno;
use rustix::ioctl::opcode;
use rustix::ioctl::Opcode;
use rustix::ioctl::Setter;
use std::fs::File;

const BLKDISCARD: Opcode = opcode::none(0x12, 119);
const BLKZEROOUT: Opcode = opcode::none(0x12, 127);

pub(crate) fn discard(file: &File, bytes: [u64; 2]) -> Result<(), Errno> {
    // SAFETY: BLKDISCARD reads two u64, offset and length in bytes, and keeps nothing.
    unsafe { rustix::ioctl::ioctl(file, Setter::<BLKDISCARD, [u64; 2]>::new(bytes)) }
}

pub(crate) fn zero_out(file: &File, bytes: [u64; 2]) -> Result<(), Errno> {
    // SAFETY: BLKZEROOUT reads two u64, offset and length in bytes, and keeps nothing.
    unsafe { rustix::ioctl::ioctl(file, Setter::<BLKZEROOUT, [u64; 2]>::new(bytes)) }
}
