// SPDX-License-Identifier: GPL-2.0

//! The ioctl that discards the free space of a mounted file system, which no library has. It is a crate of its own so
//! that `bowctl` needs no unsafe code.

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{ioctl, opcode, Opcode, Updater};

/// C's `struct fstrim_range`. All is in bytes.
#[repr(C)]
struct Range {
    start: u64,
    /// Length; afterwards, how much was discarded.
    len: u64,
    minlen: u64,
}

/// The ioctl's number.
const FITRIM: Opcode = opcode::read_write::<Range>(b'X', 121);

/// Discards all free space of the file system that `directory` is on. Returns how many bytes.
///
/// # Errors
///
/// Those of the ioctl: `EOPNOTSUPP` of a file system or device that cannot; `EPERM`; errors of the device.
pub fn fitrim(directory: impl AsFd) -> Result<u64, Errno> {
    let mut range = Range {
        start: 0,
        len: u64::MAX,
        minlen: 0,
    };

    // SAFETY: The ioctl's argument is a pointer to a `struct fstrim_range`, which it reads and writes. `Range` has its
    // layout, and any bits are values of it.
    unsafe { ioctl(directory, Updater::<FITRIM, Range>::new(&mut range)) }?;
    Ok(range.len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn the_number_is_that_of_the_kernel() {
        assert_eq!(FITRIM, 0xc018_5879);
    }

    #[test]
    fn what_has_no_file_system_cannot() {
        assert_eq!(fitrim(File::open("/dev/null").unwrap()), Err(Errno::NOTTY));
    }
}
