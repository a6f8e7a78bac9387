// SPDX-License-Identifier: GPL-2.0

//! Block I/O requests: those that a target is given ([`Bio`]), lists of them ([`BioList`]), and
//! those that it makes itself ([`BioSet`]).
//!
//! C headers: [`include/linux/bio.h`](srctree/include/linux/bio.h),
//! [`include/linux/blk_types.h`](srctree/include/linux/blk_types.h)

use super::{
    bindings as dm_bindings,
    buffer::Buffer,
    device::Device,
    device_mapper::Target,
    epoch::Ticket, //
};
use core::{
    marker::PhantomData,
    mem::{
        offset_of,
        ManuallyDrop,
        MaybeUninit, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::to_result,
    page::PAGE_SIZE,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
    types::Opaque, //
};

/// What a bio asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Nothing but a flush of the device's cache.
    Flush,
    /// Reads.
    Read,
    /// Tells that the contents are not needed any more.
    Discard,
    /// Changes the contents: a write, or a write of zeroes.
    Write,
}

/// Status with which a bio ends: a `blk_status_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    /// Success.
    pub(crate) const OK: Self = Self(dm_bindings::HELPER_BLK_STS_OK);
    /// An I/O error: EIO at the writer.
    pub(crate) const IO_ERROR: Self = Self(dm_bindings::HELPER_BLK_STS_IOERR);
    /// Not without waiting: EAGAIN at the submitter.
    pub(crate) const AGAIN: Self = Self(dm_bindings::HELPER_BLK_STS_AGAIN);
    /// No space: ENOSPC at the writer.
    pub(crate) const NO_SPACE: Self = Self(dm_bindings::HELPER_BLK_STS_NOSPC);

    /// The status as a number that fits an atomic; 0 is success.
    pub(crate) fn as_raw(self) -> u32 {
        u32::from(self.0)
    }

    /// The status that [`as_raw`](Self::as_raw) made.
    pub(crate) fn from_raw(raw: u32) -> Self {
        u8::try_from(raw).map_or(Self::IO_ERROR, Self)
    }
}

/// A bio that device mapper gave to the target `T`, which owns it until it gives it back: as the
/// return value of [`Target::map`], with [`submit`](Self::submit) or with [`end`](Self::end).
/// Dropping it ends it with an I/O error, so that none can be lost. It is directed to the device of
/// its table, which stays open until it has ended.
///
/// # Invariants
///
/// The pointer is to a clone of device mapper's with per-bio data of type `T::BioData`, and nobody
/// else uses it.
pub(crate) struct Bio<T: Target>(NonNull<bindings::bio>, PhantomData<fn(T)>);

// SAFETY: A bio may be handled by any thread, one at a time.
unsafe impl<T: Target> Send for Bio<T> {}

impl<T: Target> Bio<T> {
    /// Takes over a bio.
    ///
    /// # Safety
    ///
    /// The type invariants must hold, and the caller must not use the pointer any more.
    pub(super) unsafe fn from_raw(bio: NonNull<bindings::bio>) -> Self {
        // INVARIANT: By the safety requirements.
        Self(bio, PhantomData)
    }

    /// Gives up the bio without ending it.
    pub(super) fn into_raw(self) -> *mut bindings::bio {
        ManuallyDrop::new(self).0.as_ptr()
    }

    fn raw(&self) -> &bindings::bio {
        // SAFETY: By the type invariants the pointer is valid, and shared with nobody.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut bindings::bio {
        // SAFETY: By the type invariants the pointer is valid, and shared with nobody.
        unsafe { self.0.as_mut() }
    }

    /// What it asks for.
    #[inline]
    pub(crate) fn operation(&self) -> Operation {
        match self.raw().bi_opf & dm_bindings::HELPER_REQ_OP_MASK {
            dm_bindings::HELPER_REQ_OP_READ => Operation::Read,
            _ if self.raw().bi_iter.bi_size == 0 => Operation::Flush,
            dm_bindings::HELPER_REQ_OP_DISCARD => Operation::Discard,
            _ => Operation::Write,
        }
    }

    /// Has it end by itself, even if its submitter said that it would poll for that, since others
    /// wait for it too.
    #[inline]
    pub(crate) fn end_unpolled(&mut self) {
        self.raw_mut().bi_opf &= !dm_bindings::HELPER_REQ_POLLED;
    }

    /// Returns whether its submitter must not be made to wait.
    #[inline]
    pub(crate) fn is_nowait(&self) -> bool {
        self.raw().bi_opf & dm_bindings::HELPER_REQ_NOWAIT != 0
    }

    /// Has it wait where it would have failed with EAGAIN, since it will be submitted by another thread
    /// than its submitter's, which can.
    #[inline]
    pub(crate) fn allow_waiting(&mut self) {
        self.raw_mut().bi_opf &= !dm_bindings::HELPER_REQ_NOWAIT;
    }

    /// First sector, of the target.
    #[inline]
    pub(crate) fn sector(&self) -> u64 {
        self.raw().bi_iter.bi_sector
    }

    /// The sectors that it is about, of the target.
    #[inline]
    pub(crate) fn span(&self) -> core::ops::Range<u64> {
        let sectors = u64::from(self.raw().bi_iter.bi_size) / SECTOR_SIZE;
        self.sector()..self.sector().wrapping_add(sectors)
    }

    /// Sends it to another sector.
    pub(crate) fn set_sector(&mut self, sector: u64) {
        self.raw_mut().bi_iter.bi_sector = sector;
    }

    /// Cuts it after `sectors` sectors; device mapper sends the rest as another bio. Only within
    /// [`Target::map`], and not on a flush. Does nothing if it is not longer.
    pub(crate) fn accept_only(&mut self, sectors: u64) {
        let span = self.span();
        if sectors > 0 && sectors < span.end - span.start {
            // SAFETY: By the type invariants this is device mapper's clone, which is being mapped.
            // The target has one bio for each operation, so it is no duplicate, and it is not an
            // atomic write, since targets do not say that they support those.
            unsafe { dm_bindings::dm_accept_partial_bio(self.0.as_ptr(), sectors as u32) };
        }
    }

    /// The target's data of this bio.
    #[inline]
    pub(crate) fn data(&mut self) -> &mut T::BioData {
        // SAFETY: By the type invariants there is per-bio data of this type, which was initialised
        // before the target was given the bio, and nobody else uses it.
        unsafe { &mut *per_bio_data::<T>(self.0.as_ptr()) }
    }

    /// Submits it to the device of its table; not within [`Target::map`], which returns
    /// it instead. Process context.
    pub(crate) fn submit(self) {
        // SAFETY: By the type invariants this is device mapper's clone, and the target has set
        // `accounts_remapped_io`.
        unsafe { dm_bindings::dm_submit_bio_remap(self.into_raw(), core::ptr::null_mut()) };
    }

    /// Ends it. Any context.
    pub(crate) fn end(mut self, status: Status) {
        self.raw_mut().bi_status = status.0;
        // SAFETY: By the type invariants the bio is the target's to end.
        unsafe { bindings::bio_endio(self.into_raw()) };
    }
}

impl<T: Target> Drop for Bio<T> {
    fn drop(&mut self) {
        self.raw_mut().bi_status = Status::IO_ERROR.0;
        // SAFETY: By the type invariants the bio is the target's to end.
        unsafe { bindings::bio_endio(self.0.as_ptr()) };
    }
}

/// Where the target's data of a bio is.
///
/// # Safety
///
/// `bio` must be a clone of device mapper's for target `T`.
pub(super) unsafe fn per_bio_data<T: Target>(bio: *mut bindings::bio) -> *mut T::BioData {
    // SAFETY: By the safety requirements; the size is the one that the target asked for.
    unsafe { dm_bindings::dm_per_bio_data(bio, size_of::<T::BioData>()) }.cast()
}

/// Bytes in a sector.
const SECTOR_SIZE: u64 = 512;

/// A list of bios, first in, first out, linked through the bios themselves. Dropping it ends them
/// with I/O errors.
///
/// # Invariants
///
/// `head` and `tail` are the ends of a list linked by `bi_next` of bios that the list owns, or both
/// null; `len` is how many they are.
pub(crate) struct BioList<T: Target> {
    head: *mut bindings::bio,
    tail: *mut bindings::bio,
    len: usize,
    _target: PhantomData<fn(T)>,
}

// SAFETY: The list owns its bios, which may be handled by any thread.
unsafe impl<T: Target> Send for BioList<T> {}

impl<T: Target> BioList<T> {
    /// Creates an empty list.
    pub(crate) const fn new() -> Self {
        Self {
            head: core::ptr::null_mut(),
            tail: core::ptr::null_mut(),
            len: 0,
            _target: PhantomData,
        }
    }

    /// How many are in it.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.head.is_null()
    }

    /// Adds a bio as the last.
    pub(crate) fn push(&mut self, bio: Bio<T>) {
        let raw = bio.into_raw();
        // SAFETY: The list owns `raw` now.
        unsafe { (*raw).bi_next = core::ptr::null_mut() };
        self.link(raw, raw, 1);
    }

    /// Adds all of `other` behind the last.
    pub(crate) fn append(&mut self, other: &mut Self) {
        if !other.is_empty() {
            self.link(other.head, other.tail, other.len);
            other.head = core::ptr::null_mut();
            other.tail = core::ptr::null_mut();
            other.len = 0;
        }
    }

    fn link(&mut self, head: *mut bindings::bio, tail: *mut bindings::bio, len: usize) {
        if self.head.is_null() {
            self.head = head;
        } else {
            // SAFETY: By the type invariants the tail is valid and owned by the list.
            unsafe { (*self.tail).bi_next = head };
        }
        self.tail = tail;
        // There are not so many bios in all of memory.
        self.len = self.len.wrapping_add(len);
    }

    /// Takes out the first.
    pub(crate) fn pop(&mut self) -> Option<Bio<T>> {
        let first = NonNull::new(self.head)?;
        // SAFETY: By the type invariants the head is valid and owned by the list.
        unsafe {
            self.head = (*first.as_ptr()).bi_next;
            (*first.as_ptr()).bi_next = core::ptr::null_mut();
        }
        if self.head.is_null() {
            self.tail = core::ptr::null_mut();
        }
        self.len = self.len.wrapping_sub(1);
        // SAFETY: The list owned it, and it came from a `Bio<T>`.
        Some(unsafe { Bio::from_raw(first) })
    }
}

impl<T: Target> Drop for BioList<T> {
    fn drop(&mut self) {
        while let Some(bio) = self.pop() {
            drop(bio);
        }
    }
}

/// A target that makes bios of its own.
pub(crate) trait Submitter: Target {
    /// What a bio of its own carries to its end.
    type Tag: Copy + Send;

    /// The reserve that its bios come from.
    fn bios(&self) -> &BioSet<Self>;

    /// The device that its bios go to.
    fn device(&self) -> &Device;

    /// A bio of its own has ended. Any context, also interrupt: must not sleep.
    fn ended(this: ArcBorrow<'_, Self>, tag: Self::Tag, status: Status);
}

/// Returns whether the current thread, which is in [`Target::map`], has no other bio on its way through the
/// block layer, so that it may sleep until other bios have ended.
pub(crate) fn may_sleep_in_map() -> bool {
    // SAFETY: The function looks at the current thread only.
    unsafe { dm_bindings::helper_bio_list_is_empty() }
}

/// Runs `work` with the current thread's bios plugged: those that it submits are handed to drivers
/// together, neighbours merged, when it has returned or sleeps. Process context.
pub(crate) fn plugged<R>(work: impl FnOnce() -> R) -> R {
    let mut plug = MaybeUninit::<bindings::blk_plug>::uninit();
    // SAFETY: `plug` is memory for a `blk_plug`, which the function initialises; it stays where it is
    // until `blk_finish_plug` has taken the thread's pointer to it away, since nothing unwinds in the
    // kernel.
    unsafe { bindings::blk_start_plug(plug.as_mut_ptr()) };
    let result = work();
    // SAFETY: The plug was started above, on the same thread.
    unsafe { bindings::blk_finish_plug(plug.as_mut_ptr()) };
    result
}

/// Header in front of each bio of a [`BioSet`], with all that the bio needs until it has ended.
#[repr(C)]
struct Own<T: Submitter> {
    /// Keeps the reserve.
    target: ManuallyDrop<Arc<T>>,
    /// Keeps the pages.
    buffer: ManuallyDrop<Arc<Buffer>>,
    /// Keeps the device open, and itself until it is left.
    ticket: ManuallyDrop<Ticket>,
    device: *const Device,
    tag: T::Tag,
    // Last: the C code places the bio at `front_pad`, which is this field's offset.
    bio: bindings::bio,
}

/// A reserve of bios for target `T`, out of which one can always be had once others have ended.
///
/// # Invariants
///
/// `set` is an initialised `struct bio_set` whose `front_pad` is the offset of `Own::bio`.
#[pin_data(PinnedDrop)]
pub(crate) struct BioSet<T: Submitter> {
    #[pin]
    set: Opaque<bindings::bio_set>,
    _target: PhantomData<T>,
}

// SAFETY: `bio_set` may be used from any thread.
unsafe impl<T: Submitter> Send for BioSet<T> {}
// SAFETY: `bio_set` may be used concurrently.
unsafe impl<T: Submitter> Sync for BioSet<T> {}

/// The most pages that a bio of a [`BioSet`] can have.
pub(crate) const BIO_PAGES_MAX: usize = dm_bindings::HELPER_BIO_MAX_VECS as usize;

/// What a bio of one's own does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnOperation {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Writes with FUA: ends when what it wrote is durable.
    WriteFua,
}

impl OwnOperation {
    fn flags(self) -> u32 {
        // As jbd2 writes its journal: writeback throttling lets it pass.
        let write = dm_bindings::HELPER_REQ_OP_WRITE
            | dm_bindings::HELPER_REQ_SYNC
            | dm_bindings::HELPER_REQ_META
            | dm_bindings::HELPER_REQ_IDLE;
        match self {
            Self::Read => dm_bindings::HELPER_REQ_OP_READ | dm_bindings::HELPER_REQ_SYNC,
            Self::Write => write,
            Self::WriteFua => write | dm_bindings::HELPER_REQ_FUA,
        }
    }
}

/// What a bio of one's own is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<Tag> {
    /// What.
    pub(crate) operation: OwnOperation,
    /// Where on the device: its first sector.
    pub(crate) sector: u64,
    /// What [`Submitter::ended`] is called with.
    pub(crate) tag: Tag,
}

/// A piece of a [`Buffer`]: `bytes` bytes from the start of page `page`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// First page.
    pub(crate) page: usize,
    /// Length in bytes.
    pub(crate) bytes: usize,
}

impl<T: Submitter> BioSet<T> {
    /// Creates a reserve of `size` bios, each with up to [`BIO_PAGES_MAX`] pages. Sleeps.
    pub(crate) fn new(size: u32) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            set <- Opaque::try_ffi_init(|slot: *mut bindings::bio_set| {
                // SAFETY: `slot` is memory for a `bio_set`, which the C code expects zeroed.
                to_result(unsafe {
                    core::ptr::write_bytes(slot, 0, 1);
                    bindings::bioset_init(
                        slot,
                        size,
                        offset_of!(Own<T>, bio) as u32,
                        bindings::BIOSET_NEED_BVECS as i32,
                    )
                })
            }),
            _target: PhantomData,
        })
    }

    /// Starts I/O of `target` between `pieces` of `buffer`, one after the other, and its device.
    ///
    /// Process context. May sleep until another bio of the set has ended; never for other memory.
    /// The pieces have [`BIO_PAGES_MAX`] pages at the most; more may be an I/O error. So is any I/O
    /// after the target's tables have gone.
    pub(crate) fn submit(
        target: ArcBorrow<'_, T>,
        order: Order<T::Tag>,
        buffer: &Arc<Buffer>,
        pieces: impl Iterator<Item = Piece> + Clone,
    ) {
        let Order {
            operation,
            sector,
            tag,
        } = order;
        let runs: usize = pieces
            .clone()
            .map(|piece| buffer.runs(piece.page, piece.bytes))
            .sum();
        if runs > BIO_PAGES_MAX {
            return T::ended(target, tag, Status::IO_ERROR);
        }
        let device = target.device();
        let Some((bdev, ticket)) = device.enter() else {
            return T::ended(target, tag, Status::IO_ERROR);
        };
        // SAFETY: By the type invariants the set is initialised. With a mempool and flags that may
        // sleep the allocation does not fail; each bio of the set is submitted before the next is
        // allocated, so waiting for one to end is waiting for the device alone.
        let bio = unsafe {
            bindings::bio_alloc_bioset(
                bdev.as_ptr(),
                runs as u16,
                operation.flags(),
                dm_bindings::HELPER_GFP_NOIO,
                target.bios().set.get(),
            )
        };
        if bio.is_null() {
            device.leave(ticket);
            return T::ended(target, tag, Status::IO_ERROR);
        }
        // SAFETY: By the type invariants a bio of the set has an `Own<T>` around it, that nobody
        // else uses; the fields are written without being read or dropped.
        unsafe {
            let own = kernel::container_of!(bio, Own<T>, bio);
            (&raw mut (*own).target).write(ManuallyDrop::new(target.into()));
            (&raw mut (*own).buffer).write(ManuallyDrop::new(buffer.clone()));
            (&raw mut (*own).ticket).write(ManuallyDrop::new(ticket));
            (&raw mut (*own).device).write(device);
            (&raw mut (*own).tag).write(tag);
            (*bio).bi_iter.bi_sector = sector;
            (*bio).bi_end_io = Some(Self::end_io);
        }
        for piece in pieces {
            let mut left = piece.bytes;
            let mut index = piece.page;
            while left > 0 {
                let added = buffer.run(index, left).map_or(0, |(page, bytes)| {
                    // SAFETY: The bio was allocated with room for all runs; `page` is valid, and
                    // with those that follow it has that many bytes.
                    unsafe { bindings::bio_add_page(bio, page, bytes as u32, 0) }
                }) as usize;
                if added == 0 {
                    // SAFETY: The bio is ours and not submitted.
                    unsafe {
                        (*bio).bi_status = Status::IO_ERROR.0;
                        bindings::bio_endio(bio);
                    }
                    return;
                }
                left -= added;
                index += added / PAGE_SIZE;
            }
        }
        // SAFETY: The bio is set up. What it holds pointers to stays until it has ended: `Own` has
        // references to the pages and to the target, which has the set; and a ticket of the device.
        unsafe { bindings::submit_bio_noacct(bio) };
    }

    /// The C code's callback.
    ///
    /// # Safety
    ///
    /// `bio` came from [`submit`](Self::submit) and has ended.
    unsafe extern "C" fn end_io(bio: *mut bindings::bio) {
        // SAFETY: By the safety requirements there is an initialised `Own<T>` around the bio, read
        // here once, before the bio is freed.
        let (target, buffer, ticket, device, tag, status) = unsafe {
            let own = kernel::container_of!(bio, Own<T>, bio);
            (
                ManuallyDrop::take(&mut (*own).target),
                ManuallyDrop::take(&mut (*own).buffer),
                ManuallyDrop::take(&mut (*own).ticket),
                (*own).device,
                (*own).tag,
                Status((*bio).bi_status),
            )
        };
        // SAFETY: The bio has ended, and the set is there, since `target` is.
        unsafe { bindings::bio_put(bio) };
        T::ended(target.as_arc_borrow(), tag, status);
        // Whoever waits for the ticket may drop the last of these, and not in an interrupt.
        drop(buffer);
        drop(target);
        // SAFETY: The ticket is of this device, whose drop waits for it.
        unsafe { (*device).leave(ticket) };
    }
}

#[pinned_drop]
impl<T: Submitter> PinnedDrop for BioSet<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariants the set is initialised. All its bios have ended, since each
        // has a reference to the target that it is part of.
        unsafe { bindings::bioset_exit(self.set.get()) };
    }
}

#[kunit_tests(dm_bow_bio)]
mod tests {
    use super::*;

    /// Any target will do.
    type Bios = BioList<crate::Bow>;

    /// Bios that are in no list, and never reach a device.
    fn bios<const N: usize>() -> Result<KBox<[bindings::bio; N]>> {
        Ok(KBox::new(
            core::array::from_fn(|_| bindings::bio::default()),
            GFP_KERNEL,
        )?)
    }

    fn push(list: &mut Bios, bio: &mut bindings::bio) {
        // SAFETY: Nobody but the list uses it, and `pops` takes it out without ending it.
        list.push(unsafe { Bio::from_raw(NonNull::from(bio)) });
    }

    /// Empties the list, and says whether these were in it, in that order.
    fn pops(list: &mut Bios, wanted: &[bindings::bio]) -> bool {
        let mut wanted = wanted.iter();
        let mut good = true;
        while let Some(bio) = list.pop() {
            let raw = bio.into_raw();
            // SAFETY: It was pushed by `push`, and is in no list any more.
            good &= unsafe { (*raw).bi_next.is_null() };
            good &= wanted
                .next()
                .is_some_and(|bio| core::ptr::eq(raw.cast_const(), bio));
        }
        good && wanted.next().is_none() && list.is_empty()
    }

    #[test]
    fn first_in_first_out() -> Result {
        let mut bios = bios::<4>()?;
        let mut list = Bios::new();
        assert!(list.is_empty());
        assert!(list.pop().is_none());
        for _ in 0..2 {
            for bio in bios.iter_mut() {
                // As if it had been in another list.
                bio.bi_next = core::ptr::dangling_mut();
                push(&mut list, bio);
            }
            assert!(!list.is_empty());
            assert!(pops(&mut list, &*bios));
        }
        Ok(())
    }

    #[test]
    fn one_list_behind_another() -> Result {
        // So many in the first list, the rest in the second.
        for split in 0..=4 {
            let mut bios = bios::<4>()?;
            let (mut first, mut second) = (Bios::new(), Bios::new());
            for (index, bio) in bios.iter_mut().enumerate() {
                let list = if index < split {
                    &mut first
                } else {
                    &mut second
                };
                push(list, bio);
            }
            first.append(&mut second);
            let is_second_empty = second.is_empty() && second.pop().is_none();
            assert!(pops(&mut first, &*bios));
            assert!(is_second_empty);
        }
        Ok(())
    }

    #[test]
    fn a_status_survives_as_a_number() {
        for raw in 0..=255 {
            assert_eq!(Status(raw).as_raw(), u32::from(raw));
            assert!(Status::from_raw(Status(raw).as_raw()) == Status(raw));
        }
        assert_eq!(Status::OK.as_raw(), 0);
        assert!(Status::from_raw(256) == Status::IO_ERROR);
    }
}
