// SPDX-License-Identifier: GPL-2.0

//! Work queues of a device's own.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::bindings as dm_bindings;
use core::ptr::NonNull;
use kernel::{
    bindings,
    prelude::*,
    workqueue::Queue, //
};

/// Work queue that runs at most two work items at a time. One item never runs on two CPUs at once.
///
/// # Invariants
///
/// The pointer is to a work queue that the value owns.
pub(crate) struct OwnQueue(NonNull<bindings::workqueue_struct>);

// SAFETY: Work queues may be used from any thread.
unsafe impl Send for OwnQueue {}
// SAFETY: Work queues may be used concurrently.
unsafe impl Sync for OwnQueue {}

impl OwnQueue {
    /// Creates a queue with a rescuer thread (`WQ_MEM_RECLAIM`), which makes progress when memory is short. Its
    /// items do not wait for memory. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn reclaim(name: &CStr) -> Result<Self> {
        Self::new(name, true)
    }

    /// Creates a queue whose items may wait for anything. Sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn ordinary(name: &CStr) -> Result<Self> {
        Self::new(name, false)
    }

    fn new(name: &CStr, for_reclaim: bool) -> Result<Self> {
        // SAFETY: `name` is a C string; the function copies it.
        let queue = unsafe { dm_bindings::helper_alloc_workqueue(name.as_char_ptr(), for_reclaim) };
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

impl core::ops::Deref for OwnQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariants the pointer is valid as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OwnQueue {
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
