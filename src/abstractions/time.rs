// SPDX-License-Identifier: GPL-2.0

//! Wall clock, and random identities.

use super::bindings as dm_bindings;
use kernel::bindings;

/// Returns the seconds since the epoch.
pub(crate) fn real_seconds() -> u64 {
    // SAFETY: May be called in any context.
    let seconds = unsafe { dm_bindings::helper_real_seconds() };
    u64::try_from(seconds).unwrap_or(0)
}

/// Returns a random (version 4) UUID. Process context.
pub(crate) fn random_uuid() -> [u8; 16] {
    let mut uuid = [0; 16];
    // SAFETY: The function writes 16 bytes.
    unsafe { bindings::generate_random_uuid(uuid.as_mut_ptr()) };
    uuid
}
