// SPDX-License-Identifier: GPL-2.0

//! The environment block of GRUB, by which GRUB counts the boots of a system on trial (`/etc/grub.d/01_bow`).
//!
//! The block is written while the checkpoint is open, and so has a backup before GRUB itself writes to it, below
//! dm-bow. A rollback brings back the block without the count.

use std::fs;

use super::programs;
use crate::error::Result;

/// Configuration of GRUB.
const CONFIG: &str = "/boot/grub/grub.cfg";

/// Environment block of GRUB.
const ENVIRONMENT: &str = "/boot/grub/grubenv";

/// Name of the count.
const TRIES: &str = "bow_tries";

/// Most tries that the configuration of GRUB can count.
pub const TRIES_MAX: u8 = 3;

/// Returns whether the configuration of GRUB counts tries.
fn counts() -> bool {
    programs::has("grub-editenv")
        && fs::read_to_string(CONFIG).is_ok_and(|text| text.contains(TRIES))
}

/// Has GRUB count down from `tries`. Returns whether it does; where there is no GRUB that counts, nobody does.
///
/// # Errors
///
/// The error of `grub-editenv`.
pub fn set_tries(tries: u8) -> Result<bool> {
    if !counts() {
        return Ok(false);
    }
    programs::output(
        "grub-editenv",
        &[
            ENVIRONMENT,
            "set",
            &format!("{TRIES}={}", tries.min(TRIES_MAX)),
        ],
    )?;
    Ok(true)
}

/// Has GRUB count no more.
///
/// # Errors
///
/// The error of `grub-editenv`.
pub fn unset_tries() -> Result {
    if counts() {
        programs::output("grub-editenv", &[ENVIRONMENT, "unset", TRIES])?;
    }
    Ok(())
}
