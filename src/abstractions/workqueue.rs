// SPDX-License-Identifier: GPL-2.0

//! A work queue of a device's own, which makes progress when memory is short.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::bindings as dm_bindings;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    workqueue::Queue, //
};

/// Work queue with a rescuer thread (`WQ_MEM_RECLAIM`) that runs at most two work items at a time. One item
/// never runs on two CPUs at once.
///
/// # Invariants
///
/// The pointer is to a work queue that the value owns.
pub(crate) struct ReclaimQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work queues may be used from any thread.
unsafe impl Send for ReclaimQueue {}
// SAFETY: Work queues may be used concurrently.
unsafe impl Sync for ReclaimQueue {}

impl ReclaimQueue {
    /// Creates a queue. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new(name: &CStr) -> Result<Self> {
        // SAFETY: `name` is a C string; the function copies it.
        let queue = unsafe { dm_bindings::helper_alloc_workqueue(name.as_char_ptr()) };
        // INVARIANT: The queue was just made.
        NonNull::new(queue).map(Self).ok_or(ENOMEM)
    }

    /// Waits until all items have run, those too that other items queue meanwhile. Sleeps; not from an item of
    /// this queue.
    pub(crate) fn drain(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::drain_workqueue(self.0.as_ptr()) };
    }
}

impl core::ops::Deref for ReclaimQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariants the pointer is valid as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for ReclaimQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the queue is owned by `self`.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

/// Scope in which all allocations of the current thread behave as `GFP_NOIO`, so that none waits for I/O.
pub(crate) struct NoIo {
    flags: u32,
    _not_send: kernel::types::NotThreadSafe,
}

impl NoIo {
    /// Enters the scope. Scopes nest.
    pub(crate) fn enter() -> Self {
        Self {
            // SAFETY: May be called in any process context.
            flags: unsafe { dm_bindings::helper_noio_save() },
            _not_send: kernel::types::NotThreadSafe,
        }
    }
}

impl Drop for NoIo {
    fn drop(&mut self) {
        // SAFETY: The flags came from `helper_noio_save` on this same thread.
        unsafe { dm_bindings::helper_noio_restore(self.flags) };
    }
}
