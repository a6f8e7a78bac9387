// SPDX-License-Identifier: GPL-2.0

//! Internal I/O: bios that a driver makes itself.
//!
//! C header: [`include/linux/bio.h`](srctree/include/linux/bio.h)

use super::{
    bio::Status,
    buffer::{
        Pages,
        PAGE_BYTES, //
    },
    device::Device, //
};
use crate::abstractions::{
    bindings as dm_bindings,
    srcu::Ticket, //
};
use core::{
    marker::PhantomData,
    mem::{
        offset_of,
        ManuallyDrop, //
    },
};
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// Owner of internal I/O, which is told of its completion.
pub(crate) trait IoCompletion: Sized + Send + Sync + 'static {
    /// Value that a bio carries to its completion.
    type Tag: Copy + Send;

    /// Returns the reserve that the bios come from.
    fn bios(&self) -> &BioSet<Self>;

    /// Returns the device that the bios go to.
    fn device(&self) -> &Device;

    /// Handles the completion of the bio of `tag`. Any context, also interrupt: must not sleep.
    fn completed(this: ArcBorrow<'_, Self>, tag: Self::Tag, status: Status);
}

/// Operation of internal I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum IoOperation {
    /// Reads.
    Read,
    /// Writes with FUA: completes when the data is durable.
    WriteFua,
}

impl IoOperation {
    fn flags(self) -> u32 {
        match self {
            Self::Read => dm_bindings::HELPER_REQ_OP_READ | dm_bindings::HELPER_REQ_SYNC,
            // As jbd2 writes its journal: writeback throttling lets it pass.
            Self::WriteFua => {
                dm_bindings::HELPER_REQ_OP_WRITE
                    | dm_bindings::HELPER_REQ_SYNC
                    | dm_bindings::HELPER_REQ_META
                    | dm_bindings::HELPER_REQ_IDLE
                    | dm_bindings::HELPER_REQ_FUA
            }
        }
    }
}

/// Request for internal I/O.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IoRequest<Tag> {
    /// Operation.
    pub(crate) operation: IoOperation,
    /// First sector on the device.
    pub(crate) sector: u64,
    /// Value for [`IoCompletion::completed`].
    pub(crate) tag: Tag,
}

/// Piece of [`Pages`]: `bytes` bytes from the start of page `page`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// First page.
    pub(crate) page: usize,
    /// Length in bytes.
    pub(crate) bytes: usize,
}

/// Most pages that a bio of a [`BioSet`] can have.
pub(crate) const BIO_PAGES_MAX: usize = dm_bindings::HELPER_BIO_MAX_VECS as usize;

/// Header in front of each bio of a [`BioSet`]: all that the bio needs until it has completed.
#[repr(C)]
struct Header<T: IoCompletion> {
    /// Keeps the reserve.
    owner: ManuallyDrop<Arc<T>>,
    /// Keeps the memory.
    pages: ManuallyDrop<Arc<Pages>>,
    /// Keeps the device open.
    ticket: ManuallyDrop<Ticket>,
    tag: T::Tag,
    // Last: the C code places the bio at `front_pad`, which is this field's offset.
    bio: bindings::bio,
}

/// Reserve of bios, out of which one can always be had once others have completed.
///
/// # Invariants
///
/// `set` is an initialised `struct bio_set` whose `front_pad` is the offset of `Header::bio`.
#[pin_data(PinnedDrop)]
pub(crate) struct BioSet<T: IoCompletion> {
    #[pin]
    set: Opaque<bindings::bio_set>,
    _owner: PhantomData<fn(T) -> T>,
}

// SAFETY: `bio_set` may be used from any thread.
unsafe impl<T: IoCompletion> Send for BioSet<T> {}
// SAFETY: `bio_set` may be used concurrently.
unsafe impl<T: IoCompletion> Sync for BioSet<T> {}

impl<T: IoCompletion> BioSet<T> {
    /// Creates a reserve of `size` bios, each with up to [`BIO_PAGES_MAX`] pages. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(size: u32) -> impl PinInit<Self, Error> {
        // INVARIANT: `bioset_init` is given that offset.
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: `slot` is memory for a `bio_set`, for which zeroes are valid.
                unsafe { slot.write_bytes(0, 1) };
                // The C code aligns its objects to cache lines.
                const { assert!(align_of::<Header<T>>() <= 64) };
                let offset = offset_of!(Header<T>, bio) as u32;
                let flags = bindings::BIOSET_NEED_BVECS as i32;
                // SAFETY: `slot` is zeroed, as the C code expects.
                to_result(unsafe { bindings::bioset_init(slot, size, offset, flags) })
            }),
            _owner: PhantomData,
        })
    }

    /// Starts the I/O of `request` between the device of `owner` and `pieces` of `pages`, one after the other.
    ///
    /// Process context. May sleep until another bio of the set has completed; never for other memory. The
    /// pieces have [`BIO_PAGES_MAX`] pages at the most; more may be an I/O error. So is any I/O after the
    /// device has been closed.
    pub(crate) fn submit(
        owner: ArcBorrow<'_, T>,
        request: IoRequest<T::Tag>,
        pages: &Arc<Pages>,
        pieces: impl Iterator<Item = Piece> + Clone,
    ) {
        let tag = request.tag;
        let runs = pieces
            .clone()
            .map(|piece| pages.runs(piece.page, piece.bytes));
        let runs: usize = runs.sum();
        if runs > BIO_PAGES_MAX {
            return T::completed(owner, tag, Status::IO_ERROR);
        }
        let Some((bdev, ticket)) = owner.device().enter() else {
            return T::completed(owner, tag, Status::IO_ERROR);
        };
        let flags = request.operation.flags();
        let set = owner.bios().set.get();
        // SAFETY: By the type invariants the set is initialised; the device is open. With a mempool and flags
        // that may sleep the allocation does not fail; each bio of the set is submitted before the next is
        // allocated, so waiting for one to complete is waiting for the device alone.
        let bio = unsafe {
            bindings::bio_alloc_bioset(
                bdev.as_ptr(),
                runs as u16,
                flags,
                dm_bindings::HELPER_GFP_NOIO,
                set,
            )
        };
        if bio.is_null() {
            return T::completed(owner, tag, Status::IO_ERROR);
        }
        // SAFETY: By the type invariants there is a `Header<T>` around a bio of the set.
        let header = unsafe { kernel::container_of!(bio, Header<T>, bio) };
        // SAFETY: Nobody else uses the header, which is not initialised yet.
        unsafe { (&raw mut (*header).owner).write(ManuallyDrop::new(owner.into())) };
        // SAFETY: As above.
        unsafe { (&raw mut (*header).pages).write(ManuallyDrop::new(pages.clone())) };
        // SAFETY: As above.
        unsafe { (&raw mut (*header).ticket).write(ManuallyDrop::new(ticket)) };
        // SAFETY: As above.
        unsafe { (&raw mut (*header).tag).write(tag) };
        // SAFETY: The bio was just allocated, and nobody else uses it.
        unsafe { (*bio).bi_iter.bi_sector = request.sector };
        // SAFETY: As above.
        unsafe { (*bio).bi_end_io = Some(Self::end_io) };
        if Self::add_pieces(bio, pages, pieces).is_err() {
            // SAFETY: As above.
            unsafe { (*bio).bi_status = Status::IO_ERROR.0 };
            // SAFETY: The bio is ours and not submitted.
            return unsafe { bindings::bio_endio(bio) };
        }
        // SAFETY: The bio is set up. All that it has pointers to stays until it has completed: its header has
        // references to the pages and to the owner, which has the set; and a ticket of the device.
        unsafe { bindings::submit_bio_noacct(bio) };
    }

    /// Adds `pieces` of `pages` to `bio`, which has room for all of their runs.
    fn add_pieces(
        bio: *mut bindings::bio,
        pages: &Pages,
        pieces: impl Iterator<Item = Piece>,
    ) -> Result {
        for piece in pieces {
            let mut left = piece.bytes;
            let mut index = piece.page;
            while left > 0 {
                let run = pages.run(index, left).ok_or(EINVAL)?;
                let (bytes, offset) = (run.bytes as u32, run.offset as u32);
                // SAFETY: The caller has just allocated the bio; the page is valid, and with those that follow
                // it has that many bytes from `offset` on.
                let added = unsafe { bindings::bio_add_page(bio, run.page, bytes, offset) };
                if added == 0 {
                    return Err(EINVAL);
                }
                left -= run.bytes;
                index += run.bytes / PAGE_BYTES;
            }
        }
        Ok(())
    }

    /// Handles the completion of a bio.
    ///
    /// # Safety
    ///
    /// `bio` came from [`submit`](Self::submit) and has completed.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirements there is an initialised `Header<T>` around the bio.
        let header = unsafe { kernel::container_of!(bio, Header<T>, bio) };
        // SAFETY: As above; nobody else uses the header any more, and each field is taken once.
        let owner = unsafe { ManuallyDrop::take(&mut (*header).owner) };
        // SAFETY: As above.
        let pages = unsafe { ManuallyDrop::take(&mut (*header).pages) };
        // SAFETY: As above.
        let ticket = unsafe { ManuallyDrop::take(&mut (*header).ticket) };
        // SAFETY: As above.
        let tag = unsafe { (*header).tag };
        // SAFETY: The bio is valid until it is put.
        let status = Status(unsafe { (*bio).bi_status });
        // SAFETY: The bio has completed, and the set is there, since `owner` is.
        unsafe { bindings::bio_put(bio) };
        T::completed(owner.as_arc_borrow(), tag, status);
        // Whoever waits for the ticket may drop the last of these, and not in an interrupt.
        drop(pages);
        drop(owner);
        drop(ticket);
    }
}

#[pinned_drop]
impl<T: IoCompletion> PinnedDrop for BioSet<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the set is initialised. All its bios have completed, since each has a
        // reference to the owner that it is part of.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}
