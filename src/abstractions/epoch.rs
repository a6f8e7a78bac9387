// SPDX-License-Identifier: GPL-2.0

//! Waiting for what is in flight.
//!
//! An [`Epoch`] is sleepable RCU in its semaphore form: whoever starts I/O enters it and keeps the
//! [`Ticket`] until the I/O has ended, which may be in another context. [`Epoch::drain`] then waits
//! for all I/O that was in flight when it was called, and for no other. Entering and leaving costs
//! a per-CPU increment and a memory barrier each; nothing is shared between CPUs.
//!
//! C header: [`include/linux/srcu.h`](srctree/include/linux/srcu.h)

use super::bindings as dm_bindings;
use kernel::{
    bindings,
    error::to_result,
    prelude::*,
    static_lock_class,
    sync::atomic::{
        ordering::Full,
        Atomic, //
    },
    types::Opaque, //
};

/// What is in flight, so that it can be waited for.
///
/// # Invariants
///
/// `srcu` is an initialised `struct srcu_struct`.
#[pin_data(PinnedDrop)]
pub(crate) struct Epoch {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
}

// SAFETY: All functions on a `srcu_struct` may be called from any thread.
unsafe impl Send for Epoch {}
// SAFETY: All functions on a `srcu_struct` may be called concurrently.
unsafe impl Sync for Epoch {}

/// The right to be waited for. Has to be given to [`Epoch::leave`] of the epoch that it is from.
#[must_use]
#[derive(Debug)]
pub(crate) struct Ticket(i32);

impl Epoch {
    /// Creates an epoch in which nothing is in flight.
    pub(crate) fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            srcu <- Opaque::try_ffi_init(|slot| {
                let name = c"dm_epoch";
                let key = static_lock_class!();
                // SAFETY: `slot` is memory for a `srcu_struct`; name and key are static.
                to_result(unsafe {
                    bindings::init_srcu_struct_with_key(slot, name.as_char_ptr(), key.as_ptr())
                })
            }),
        })
    }

    /// Enters the epoch. Any context but NMI.
    #[inline]
    pub(crate) fn enter(&self) -> Ticket {
        // SAFETY: By the type invariant `srcu` is initialised.
        Ticket(unsafe { dm_bindings::helper_srcu_down_read(self.srcu.get()) })
    }

    /// Leaves the epoch with a ticket that came from it. Any context but NMI.
    ///
    /// The caller may not touch what a drain protects after this.
    #[inline]
    pub(crate) fn leave(&self, ticket: Ticket) {
        // SAFETY: By the type invariant `srcu` is initialised. Tickets are only made by `enter`, and
        // are neither `Clone` nor `Copy`, so each is left at most once.
        unsafe { dm_bindings::helper_srcu_up_read(self.srcu.get(), ticket.0) };
    }

    /// Waits until every ticket that was handed out before this call has been given back. Sleeps.
    /// What was written before this call is seen by everyone who enters after it has returned.
    pub(crate) fn drain(&self) {
        // SAFETY: By the type invariant `srcu` is initialised.
        unsafe { bindings::synchronize_srcu_expedited(self.srcu.get()) };
    }
}

#[pinned_drop]
impl PinnedDrop for Epoch {
    fn drop(self: Pin<&mut Self>) {
        self.drain();
        // SAFETY: By the type invariant `srcu` is initialised; nobody is in it any more, since
        // entering takes a reference to `self`.
        unsafe { bindings::cleanup_srcu_struct(self.srcu.get()) };
    }
}

/// A value that readers see as long as they hold a ticket, and that its owner can take away.
///
/// # Invariants
///
/// `pointer` is null, or came from [`KBox::into_raw`] and is owned by the cell.
pub(crate) struct EpochCell<T> {
    pointer: Atomic<*mut T>,
}

// SAFETY: The cell owns a `T`, and gives references to it to any thread.
unsafe impl<T: Send + Sync> Send for EpochCell<T> {}
// SAFETY: As above; the pointer itself is atomic.
unsafe impl<T: Send + Sync> Sync for EpochCell<T> {}

impl<T> EpochCell<T> {
    /// Creates an empty cell.
    pub(crate) fn new() -> Self {
        Self {
            pointer: Atomic::new(core::ptr::null_mut()),
        }
    }

    /// The value, if there is one, while `ticket` is held. `ticket` is of the epoch that
    /// [`replace`](Self::replace) is called with.
    #[inline]
    pub(crate) fn get<'a>(&'a self, _ticket: &'a Ticket) -> Option<&'a T> {
        let pointer = self.pointer.load(kernel::sync::atomic::ordering::Acquire);
        // SAFETY: By the type invariant the pointer is null or valid. `replace` frees it only after
        // it has drained the epoch, which the ticket holds up for the lifetime of the reference.
        unsafe { pointer.as_ref() }
    }

    /// Puts in `value`, waits until nobody can be using the old value any more, and drops that.
    /// Sleeps.
    pub(crate) fn replace(&self, value: Option<KBox<T>>, epoch: &Epoch) {
        let new = value.map_or(core::ptr::null_mut(), KBox::into_raw);
        let old = self.pointer.xchg(new, Full);
        if !old.is_null() {
            epoch.drain();
            // SAFETY: By the type invariant `old` came from `KBox::into_raw` and was owned by the
            // cell; it was taken out, and after the drain nobody has a reference to it.
            drop(unsafe { KBox::from_raw(old) });
        }
    }
}

impl<T> Drop for EpochCell<T> {
    fn drop(&mut self) {
        let pointer = self.pointer.load(kernel::sync::atomic::ordering::Acquire);
        if !pointer.is_null() {
            // SAFETY: By the type invariant; with `&mut self` nobody else has a reference.
            drop(unsafe { KBox::from_raw(pointer) });
        }
    }
}

#[kunit_tests(dm_bow_epoch)]
mod tests {
    use super::*;
    use kernel::{
        impl_has_work, new_work,
        sync::{
            atomic::ordering::{
                Acquire,
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
        epoch: Epoch,
        cell: EpochCell<Value>,
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
            this.epoch.drain();
            this.drained.store(1, Release);
            this.cell.replace(None, &this.epoch);
            this.done.complete_all();
        }
    }

    fn drainer() -> Result<Arc<Drainer>> {
        Arc::pin_init(
            try_pin_init!(Drainer {
                epoch <- Epoch::new(),
                cell: EpochCell::new(),
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
        let first = drainer.epoch.enter();
        let second = drainer.epoch.enter();
        let _ = workqueue::system().enqueue(drainer.clone());
        fsleep(Delta::from_millis(50));
        assert_eq!(drainer.drained.load(Acquire), 0);
        drainer.epoch.leave(first);
        fsleep(Delta::from_millis(50));
        assert_eq!(drainer.drained.load(Acquire), 0);
        drainer.epoch.leave(second);
        drainer.done.wait_for_completion();
        assert_eq!(drainer.drained.load(Acquire), 1);
        Ok(())
    }

    #[test]
    fn drain_waits_for_nothing_else() -> Result {
        let drainer = drainer()?;
        let ticket = drainer.epoch.enter();
        drainer.epoch.leave(ticket);
        drainer.epoch.drain();
        Ok(())
    }

    #[test]
    fn a_cell_frees_what_nobody_can_see() -> Result {
        let drops = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let drainer = drainer()?;
        let value = |number| KBox::new(Value(number, drops.clone()), GFP_KERNEL);
        drainer.cell.replace(Some(value(1)?), &drainer.epoch);
        assert_eq!(drops.load(Acquire), 0);
        drainer.cell.replace(Some(value(2)?), &drainer.epoch);
        assert_eq!(drops.load(Acquire), 1);

        let ticket = drainer.epoch.enter();
        let seen = drainer.cell.get(&ticket);
        let _ = workqueue::system().enqueue(drainer.clone());
        fsleep(Delta::from_millis(50));
        // Still there for who has seen it.
        assert_eq!(drops.load(Acquire), 1);
        assert_eq!(seen.map(|value| value.0), Some(2));
        drainer.epoch.leave(ticket);
        drainer.done.wait_for_completion();
        assert_eq!(drops.load(Acquire), 2);
        let ticket = drainer.epoch.enter();
        assert!(drainer.cell.get(&ticket).is_none());
        drainer.epoch.leave(ticket);

        drainer.cell.replace(Some(value(3)?), &drainer.epoch);
        drop(drainer);
        // The work item's reference may be the last, and go a moment later.
        fsleep(Delta::from_millis(50));
        assert_eq!(drops.load(Acquire), 3);
        Ok(())
    }
}
