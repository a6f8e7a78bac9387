// SPDX-License-Identifier: GPL-2.0

//! Kernel errors, as `rust/kernel/error.rs`.

use core::fmt;
use core::num::{NonZeroI32, TryFromIntError};

use crate::alloc::AllocError;

/// The kernel's `Result`.
pub type Result<T = (), E = Error> = core::result::Result<T, E>;

/// Generic integer kernel error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Error(NonZeroI32);

macro_rules! codes {
    ($($name:ident = $errno:literal, $doc:literal;)+) => {
        /// C-compatible error codes, with x86's numbers.
        pub mod code {
            $(#[doc = $doc] pub const $name: super::Error = super::Error::from_code($errno);)+
        }

        impl Error {
            /// Returns the name of the error, if it has one.
            fn symbol(self) -> Option<&'static str> {
                match -self.0.get() {
                    $($errno => Some(stringify!($name)),)+
                    _ => None,
                }
            }
        }
    };
}

codes! {
    EPERM = 1, "Operation not permitted.";
    ENOENT = 2, "No such file or directory.";
    EINTR = 4, "Interrupted system call.";
    EIO = 5, "I/O error.";
    ENXIO = 6, "No such device or address.";
    E2BIG = 7, "Argument list too long.";
    EAGAIN = 11, "Try again.";
    ENOMEM = 12, "Out of memory.";
    EBUSY = 16, "Device or resource busy.";
    EEXIST = 17, "File exists.";
    ENODEV = 19, "No such device.";
    EINVAL = 22, "Invalid argument.";
    EFBIG = 27, "File too large.";
    ENOSPC = 28, "No space left on device.";
    EROFS = 30, "Read-only file system.";
    EDOM = 33, "Math argument out of domain of func.";
    ERANGE = 34, "Math result not representable.";
    ENODATA = 61, "No data available.";
    EPROTO = 71, "Protocol error.";
    EBADMSG = 74, "Not a data message.";
    EOVERFLOW = 75, "Value too large for defined data type.";
    EILSEQ = 84, "Illegal byte sequence.";
    EOPNOTSUPP = 95, "Operation not supported on transport endpoint.";
    ETIMEDOUT = 110, "Connection timed out.";
    EALREADY = 114, "Operation already in progress.";
    EINPROGRESS = 115, "Operation now in progress.";
    ESTALE = 116, "Stale file handle.";
    EUCLEAN = 117, "Structure needs cleaning.";
    ECANCELED = 125, "Operation Canceled.";
}

impl Error {
    const fn from_code(errno: i32) -> Self {
        match NonZeroI32::new(-errno) {
            Some(errno) => Self(errno),
            None => panic!("0 is no error"),
        }
    }

    /// Creates an error from a negative error code; [`code::EINVAL`] if it is none.
    pub fn from_errno(errno: i32) -> Self {
        const MAX_ERRNO: i32 = 4095;

        match NonZeroI32::new(errno) {
            Some(code) if (-MAX_ERRNO..0).contains(&errno) => Self(code),
            _ => code::EINVAL,
        }
    }

    /// Returns the (negative) kernel error code.
    pub fn to_errno(self) -> i32 {
        self.0.get()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.symbol() {
            Some(name) => f.write_str(name),
            None => f.debug_tuple("Error").field(&-self.0.get()).finish(),
        }
    }
}

impl From<AllocError> for Error {
    fn from(_: AllocError) -> Self {
        code::ENOMEM
    }
}

impl From<TryFromIntError> for Error {
    fn from(_: TryFromIntError) -> Self {
        code::EINVAL
    }
}

impl From<fmt::Error> for Error {
    fn from(_: fmt::Error) -> Self {
        code::EINVAL
    }
}

impl From<core::convert::Infallible> for Error {
    fn from(error: core::convert::Infallible) -> Self {
        match error {}
    }
}
