// SPDX-License-Identifier: GPL-2.0

//! Sleepable RCU in its semaphore form: waiting for I/O in flight.
//!
//! Who starts I/O [enters](SrcuCell::enter) and keeps the [`Ticket`] until the I/O has completed, which may be
//! in another context. [`SrcuCell::drain`] then waits for all I/O that was in flight when it was called, and
//! for no other. Entering and leaving costs a per-CPU increment and a memory barrier each; nothing is shared
//! between CPUs.
//!
//! Beside [`kernel::sync::Srcu`], whose guards cannot leave their thread, this needs
//! `srcu_down_read()` and `srcu_up_read()`.
//!
//! C header: [`include/linux/srcu.h`](srctree/include/linux/srcu.h)

use super::{
    bindings as dm_bindings,
    series::{
        new_srcu,
        Srcu, //
    },
};
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        ordering::{
            Acquire,
            Full, //
        },
        Atomic, //
    },
};

/// Readers that can be waited for, and a value that they see and the owner can take away.
///
/// # Invariants
///
/// `value` is null, or came from [`KBox::into_raw`] and is owned by the cell.
#[pin_data(PinnedDrop)]
pub(crate) struct SrcuCell<T = ()> {
    #[pin]
    srcu: Srcu,
    value: Atomic<*mut T>,
}

// SAFETY: The cell owns a `T`, and gives references to it to any thread; an `Srcu` may be used from any.
unsafe impl<T: Send + Sync> Send for SrcuCell<T> {}
// SAFETY: As above; the pointer itself is atomic.
unsafe impl<T: Send + Sync> Sync for SrcuCell<T> {}

/// Right to be waited for, until it is dropped. Any context but NMI.
///
/// # Invariants
///
/// `srcu` points to the `srcu_struct` of a cell, whose reader count `index` was raised for this ticket. The cell
/// is pinned, and its drop waits for the ticket, so the pointer is valid as long as the ticket is there.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ticket {
    srcu: NonNull<bindings::srcu_struct>,
    index: i32,
}

// SAFETY: What `srcu_down_read` has entered may be left by any thread.
unsafe impl Send for Ticket {}
// SAFETY: A `&Ticket` gives access to nothing that changes.
unsafe impl Sync for Ticket {}

impl Drop for Ticket {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants. Tickets are neither `Clone` nor `Copy`, so each is left once.
        unsafe { dm_bindings::helper_srcu_up_read(self.srcu.as_ptr(), self.index) };
    }
}

impl<T> SrcuCell<T> {
    /// Creates a cell without readers, with `value` if there is one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(value: Option<KBox<T>>) -> impl PinInit<Self, Error> {
        // INVARIANT: The pointer is null or from `KBox::into_raw`.
        try_pin_init!(Self {
            srcu <- new_srcu!("dm_srcu_cell"),
            value: Atomic::new(value.map_or(core::ptr::null_mut(), KBox::into_raw)),
        })
    }

    #[inline]
    fn raw(&self) -> NonNull<bindings::srcu_struct> {
        // `Srcu` is a transparent wrapper of the C structure.
        NonNull::from(&self.srcu).cast()
    }

    /// Enters: from now on a drain waits for the ticket. Any context but NMI.
    #[inline]
    pub(crate) fn enter(&self) -> Ticket {
        let srcu = self.raw();
        // SAFETY: The structure is initialised as long as `self`.
        let index = unsafe { dm_bindings::helper_srcu_down_read(srcu.as_ptr()) };
        // INVARIANT: The count was just raised. Cells are only made pinned.
        Ticket { srcu, index }
    }

    /// Waits until every ticket that was handed out before this call has been dropped. Sleeps. Memory that was
    /// written before this call is seen by everyone who enters after it has returned.
    pub(crate) fn drain(&self) {
        self.srcu.synchronize_expedited();
    }

    /// Returns the value, if there is one, while `ticket` is held; nothing for a ticket of another cell.
    #[inline]
    pub(crate) fn get<'a>(&'a self, ticket: &'a Ticket) -> Option<&'a T> {
        if ticket.srcu != self.raw() {
            return None;
        }
        let pointer = self.value.load(Acquire);
        // SAFETY: By the type invariants the pointer is null or valid. `replace` frees the value only after a
        // drain, which the ticket, of this very cell, holds up for the lifetime of the reference.
        unsafe { pointer.as_ref() }
    }

    /// Puts in `value`, waits until nobody can be using the old value any more, and drops that. Sleeps.
    pub(crate) fn replace(&self, value: Option<KBox<T>>) {
        // INVARIANT: Null, or from `KBox::into_raw`.
        let new = value.map_or(core::ptr::null_mut(), KBox::into_raw);
        let old = self.value.xchg(new, Full);
        if !old.is_null() {
            self.drain();
            // SAFETY: By the type invariants `old` came from `KBox::into_raw` and was owned by the cell; it
            // was taken out, and after the drain nobody has a reference to it.
            drop(unsafe { KBox::from_raw(old) });
        }
    }
}

#[pinned_drop]
impl<T> PinnedDrop for SrcuCell<T> {
    fn drop(self: Pin<&mut Self>) {
        self.replace(None);
        // For the tickets that are out: they refer to the structure.
        self.drain();
    }
}

#[kunit_tests(dm_bow_srcu)]
mod tests {
    use super::*;
    use kernel::{
        impl_has_work, new_work,
        sync::{
            atomic::ordering::{
                Relaxed,
                Release, //
            },
            Arc,
            Completion, //
        },
        time::{
            delay::fsleep,
            Delta, //
        },
        workqueue::{
            self,
            Work,
            WorkItem, //
        },
    };

    /// Counts its drops.
    struct Value(u32, Arc<Atomic<u32>>);

    impl Drop for Value {
        fn drop(&mut self) {
            self.1.add(1, Relaxed);
        }
    }

    /// Drains, in another thread, and takes away the value.
    #[pin_data]
    struct Drainer {
        #[pin]
        cell: SrcuCell<Value>,
        drained: Atomic<u32>,
        #[pin]
        done: Completion,
        #[pin]
        work: Work<Drainer>,
    }

    impl_has_work! {
        impl HasWork<Self> for Drainer { self.work }
    }

    impl WorkItem for Drainer {
        type Pointer = Arc<Drainer>;

        fn run(this: Arc<Drainer>) {
            this.cell.drain();
            this.drained.store(1, Release);
            this.cell.replace(None);
            this.done.complete_all();
        }
    }

    fn drainer() -> Result<Arc<Drainer>> {
        Arc::pin_init(
            try_pin_init!(Drainer {
                cell <- SrcuCell::new(None),
                drained: Atomic::new(0),
                done <- Completion::new(),
                work <- new_work!("dm_bow_test"),
            }),
            GFP_KERNEL,
        )
    }

    #[test]
    fn drain_waits_for_the_tickets_that_were_out() -> Result {
        let drainer = drainer()?;
        let first = drainer.cell.enter();
        let second = drainer.cell.enter();
        let _ = workqueue::system().enqueue(drainer.clone());
        fsleep(Delta::from_millis(50));
        assert_eq!(drainer.drained.load(Acquire), 0);
        drop(first);
        fsleep(Delta::from_millis(50));
        assert_eq!(drainer.drained.load(Acquire), 0);
        drop(second);
        drainer.done.wait_for_completion();
        assert_eq!(drainer.drained.load(Acquire), 1);
        Ok(())
    }

    #[test]
    fn drain_waits_for_nothing_else() -> Result {
        let drainer = drainer()?;
        let ticket = drainer.cell.enter();
        drop(ticket);
        drainer.cell.drain();
        Ok(())
    }

    #[test]
    fn a_cell_frees_what_nobody_can_see() -> Result {
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let drainer = drainer()?;
        let value = |number| KBox::new(Value(number, drops.clone()), GFP_KERNEL);
        drainer.cell.replace(Some(value(1)?));
        assert_eq!(drops.load(Acquire), 0);
        drainer.cell.replace(Some(value(2)?));
        assert_eq!(drops.load(Acquire), 1);

        let ticket = drainer.cell.enter();
        let seen = drainer.cell.get(&ticket);
        let _ = workqueue::system().enqueue(drainer.clone());
        fsleep(Delta::from_millis(50));
        // Still there for who has seen it.
        assert_eq!(drops.load(Acquire), 1);
        assert_eq!(seen.map(|value| value.0), Some(2));
        drop(ticket);
        drainer.done.wait_for_completion();
        assert_eq!(drops.load(Acquire), 2);
        let ticket = drainer.cell.enter();
        assert!(drainer.cell.get(&ticket).is_none());
        drop(ticket);

        // A ticket of another cell shows nothing.
        drainer.cell.replace(Some(value(3)?));
        let other = self::drainer()?;
        let ticket = other.cell.enter();
        assert!(drainer.cell.get(&ticket).is_none());
        drop(ticket);
        drop(drainer);
        // The work item's reference may be the last, and go later.
        for _ in 0..500 {
            if drops.load(Acquire) < 3 {
                fsleep(Delta::from_millis(10));
            }
        }
        assert_eq!(drops.load(Acquire), 3);
        Ok(())
    }
}
