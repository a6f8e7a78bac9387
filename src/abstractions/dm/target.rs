// SPDX-License-Identifier: GPL-2.0

//! The trait that a target implements.

use super::{
    args::Args,
    bio::{
        Bio,
        NewBio, //
    },
    table::{
        CtrError,
        Limits,
        LiveTable,
        NewTable, //
    },
};
use core::fmt;
use kernel::{
    error::VTABLE_DEFAULT_ERROR,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};

/// Answer to an ioctl on a mapped device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoctlAccess {
    /// Passed to the underlying device.
    Passed,
    /// Passed to the underlying device if the caller has `CAP_SYS_RAWIO`, since it could harm what the target
    /// keeps there.
    Privileged,
}

/// Device-mapper target. Optional methods are not set in the `target_type` where a target leaves them out.
#[vtable]
pub(crate) trait Target: Sized + Send + Sync + 'static {
    /// Name that tables use.
    const NAME: &'static CStr;

    /// Version of the table and status interface.
    const VERSION: [u32; 3];

    /// Features: `DM_TARGET_ALWAYS_WRITEABLE`, for a target whose tables cannot be read-only.
    const ALWAYS_WRITEABLE: bool = false;

    /// Features: `DM_TARGET_NOWAIT`, for a target that never makes the submitter of a bio with REQ_NOWAIT wait.
    const NOWAIT: bool = false;

    /// Set if flushes reach the target (`num_flush_bios`).
    const FLUSHES: bool = true;

    /// Set if discards reach the target (`num_discard_bios`), also where the underlying device has none.
    const DISCARDS: bool = false;

    /// Set if writes of zeroes reach the target (`num_write_zeroes_bios`).
    const WRITE_ZEROES: bool = false;

    /// Data that the target keeps with each bio, made anew for each, and given to [`end_io`](Self::end_io) when
    /// the bio ends.
    type BioData: Default + Send;

    /// Makes the object of a table line. Process context; may sleep. Counterpart of `dm_ctr_fn`.
    ///
    /// # Errors
    ///
    /// The line is refused, with the error at the caller's ioctl and the sentence in the log.
    fn ctr(
        table: &mut NewTable<'_, Self>,
        args: Args<'_>,
    ) -> Result<impl PinInit<Self, Error>, CtrError>;

    /// Takes over another table line, of the mapped device that is live with this object: the tables of a
    /// target that has this method share one object. While a table that was loaded waits for its `resume` the
    /// device has two, and a target with state of its own has to go on with it. Process context; may sleep.
    ///
    /// # Errors
    ///
    /// As those of [`ctr`](Self::ctr). The object stays as it is.
    fn reload(&self, _table: &mut NewTable<'_, Self>, _args: Args<'_>) -> Result<(), CtrError> {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Returns whether this object and that of another mapped device must not both be there. A lock is held:
    /// does not sleep on anything.
    fn conflicts(&self, _other: &Self) -> bool {
        false
    }

    /// Drops what the object has that refers to the object, and waits for work of its own. The last table with
    /// the object goes away: no bio of the mapped device and no internal I/O is in flight, and none will be.
    /// May sleep. Counterpart of `dm_dtr_fn`.
    fn dtr(&self) {}

    /// Decides about a bio: returns it to have it submitted to the device that it was directed to, or keeps it
    /// to submit or end it later. The submitter's context: may sleep, but not on I/O that the submitter would
    /// have to do. Counterpart of `dm_map_fn`.
    fn map(this: ArcBorrow<'_, Self>, bio: NewBio<'_, Self::BioData>)
        -> Option<Bio<Self::BioData>>;

    /// Handles the end of a bio. Any context, also interrupt. Counterpart of `dm_endio_fn`.
    fn end_io(_this: ArcBorrow<'_, Self>, _data: Self::BioData) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Prepares for I/O: the table with this object becomes the live one. May sleep. Counterpart of
    /// `dm_resume_fn`.
    fn resume(_this: &Arc<Self>, _table: &LiveTable<'_>) {}

    /// Prepares for the end of I/O: bios of the mapped device that wait for something else than I/O have to end.
    /// Must not sleep. Counterpart of `dm_presuspend_fn`.
    fn presuspend(_this: &Arc<Self>) {}

    /// Undoes [`presuspend`](Self::presuspend): I/O goes on after all. Must not sleep. Counterpart of
    /// `dm_presuspend_undo_fn`.
    fn presuspend_undo(_this: &Arc<Self>) {}

    /// Ends what the target has in flight itself; bios of the mapped device have ended. The next thing that
    /// happens may be that another table goes live, or the end of this one. May sleep, but must not wait for
    /// memory. Counterpart of `dm_postsuspend_fn`.
    fn postsuspend(_this: &Arc<Self>) {}

    /// Writes the target's part of `dmsetup status`.
    fn status(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes the arguments of the table line, such that it can be loaded again.
    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Writes what the integrity measurement architecture records: `key=value,` for each.
    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result;

    /// Handles `dmsetup message`. May sleep. Counterpart of `dm_message_fn`.
    ///
    /// # Errors
    ///
    /// The target's.
    fn message(_this: ArcBorrow<'_, Self>, _args: Args<'_>) -> Result {
        build_error!(VTABLE_DEFAULT_ERROR)
    }

    /// Decides about an ioctl that is meant for the underlying device. Counterpart of `dm_prepare_ioctl_fn`.
    fn prepare_ioctl(&self) -> IoctlAccess;

    /// Returns the sector of the underlying device where the table line begins, for `iterate_devices`.
    fn start(&self) -> u64 {
        0
    }

    /// Adjusts the limits of the mapped device, which are those of the underlying device. Counterpart of
    /// `dm_io_hints_fn`.
    fn io_hints(&self, _limits: &mut Limits<'_>) {
        build_error!(VTABLE_DEFAULT_ERROR)
    }
}
