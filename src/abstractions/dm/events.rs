// SPDX-License-Identifier: GPL-2.0

//! Events of device mapper (`dmsetup wait`).

use crate::abstractions::bindings as dm_bindings;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// Handle that raises events for whichever table is live with an object.
///
/// # Invariants
///
/// The pointer is null, or to a table that is live: it is set when the table goes live, and taken away when
/// that is suspended, which comes before its end.
#[pin_data]
pub(crate) struct Events {
    #[pin]
    table: Mutex<*mut dm_bindings::dm_table>,
}

// SAFETY: A `dm_table` may be used from any thread; the pointer is guarded by the mutex.
unsafe impl Send for Events {}
// SAFETY: As above.
unsafe impl Sync for Events {}

impl Events {
    /// Creates a handle without a table, which raises nothing.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new() -> Result<Arc<Self>> {
        // INVARIANT: The pointer is null.
        let events = pin_init!(Self {
            table <- new_mutex!(core::ptr::null_mut(), "dm_events"),
        });
        Arc::pin_init(events, GFP_KERNEL)
    }

    /// Sets the table that is live now, or takes it away.
    ///
    /// # Safety
    ///
    /// `table` is null, or a table that goes live. The caller takes it away before its end.
    pub(super) unsafe fn set_table(&self, table: *mut dm_bindings::dm_table) {
        // INVARIANT: By the safety requirements.
        *self.table.lock() = table;
    }

    /// Raises an event, if a table is live. May sleep.
    pub(crate) fn raise(&self) {
        let table = self.table.lock();
        if !table.is_null() {
            // SAFETY: By the type invariants the table is there, and stays while the lock is held.
            unsafe { dm_bindings::dm_table_event(*table) };
        }
    }
}
