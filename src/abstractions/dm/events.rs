// SPDX-License-Identifier: GPL-2.0

//! Events of device mapper (`dmsetup wait`), and uevents of its devices.

use crate::abstractions::bindings as dm_bindings;
use kernel::{
    bindings, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};

/// Maximum number of variables of a uevent.
pub(crate) const VARIABLES_MAX: usize = 4;

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

    /// Sends a uevent (`change`) of the mapped device, if a table is live, with up to [`VARIABLES_MAX`] `variables`
    /// of the form `NAME=value`. Sleeps; waits for memory, and for others that do.
    pub(crate) fn send_uevent(&self, variables: &[&CStr]) {
        let table = self.table.lock();
        if table.is_null() {
            return;
        }
        // SAFETY: By the type invariants the table is there, and stays while the lock is held.
        let kobject = unsafe { dm_bindings::helper_get_table_kobject(*table) };
        // A suspend takes the lock, and must not wait for memory.
        drop(table);
        let mut list = [core::ptr::null_mut(); VARIABLES_MAX + 1];
        for (place, variable) in list.iter_mut().take(VARIABLES_MAX).zip(variables) {
            *place = variable.as_char_ptr().cast_mut();
        }
        // SAFETY: The kobject is there until it is put. `list` ends with a null pointer, and has C strings, which the
        // function only copies.
        unsafe {
            bindings::kobject_uevent_env(
                kobject,
                bindings::kobject_action_KOBJ_CHANGE,
                list.as_mut_ptr(),
            )
        };
        // SAFETY: The reference is the one that was got above.
        unsafe { bindings::kobject_put(kobject) };
    }
}
