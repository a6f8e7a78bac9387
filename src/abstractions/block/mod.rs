// SPDX-License-Identifier: GPL-2.0

//! Block devices from below: devices that are open, memory for I/O, and internal I/O.
//!
//! C headers: [`include/linux/bio.h`](srctree/include/linux/bio.h),
//! [`include/linux/blkdev.h`](srctree/include/linux/blkdev.h)

pub(crate) mod bio;
pub(crate) mod bio_set;
pub(crate) mod buffer;
pub(crate) mod device;
