// SPDX-License-Identifier: GPL-2.0

//! Checking a log, going back to the old state, keeping the new one.
//!
//! In the order in which to read:
//!
//! 1. [`carry_out`]: [`check()`], [`restore()`] and [`commit()`] on a
//!    [`BlockDevice`](crate::device::BlockDevice). All I/O is there; what they carry out is decided
//!    by the next three, which do none. `read_ahead` has the reads of a check done before they are
//!    wanted, and `batch` those copies of a restore at once that may be.
//! 2. [`bow_decisions::check`]: a whole restore, simulated, before a byte is written. The kernel module
//!    resumes a checkpoint with the same code.
//! 3. [`mod@restore`]: the steps of a restore, which may be cut off anywhere.
//!    [`leftovers`]: what a restore zeroes first, a [set of sectors](sector_set).
//! 4. [`mod@commit`]: the steps of a commit. [`first_block`] is what both end with.
//! 5. [`error`]: why a log cannot be used.
//! 6. [`foreign`]: traces of writes that did not go through dm-bow; [`superblock`](crate::superblock) reads those of
//!    ext2, ext3 and ext4 for it.
//! 7. [`aftermath`]: dangers of a rollback without a record of free space.
//!
//! The log itself is read by [`bow_decisions::log`], the code of the kernel module.

pub mod aftermath;
mod batch;
pub mod carry_out;
pub mod commit;
pub mod error;
pub mod first_block;
pub mod foreign;
pub mod leftovers;
mod read_ahead;
pub mod restore;
pub mod sector_set;

pub use bow_decisions::check::{Finding, Limits, Summary};
pub use carry_out::{
    can_commit, can_resume, check, commit, header, restore, restore_hiding, CheckOptions, Checked,
    BUDGET_FACTOR, PIECES,
};
pub use error::{CheckError, EntryError, RecoveryError};
