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

/// Returns a kernel's command line as a configuration of GRUB must have it. `line` is as the kernel shows it.
///
/// Words in quotes are as GRUB wants them already.
pub fn escaped(line: &str) -> String {
    let word = |word: &str| -> String {
        let quoted = word.contains(['"', '\'', '\\']);
        let mut out = String::new();

        for character in word.chars() {
            if !quoted && "{}|&$;<>".contains(character) {
                out.push('\\');
            }
            out.push(character);
        }
        out
    };
    let words: Vec<_> = line.split(' ').map(word).collect();

    words.join(" ")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grub_would_take_for_its_own_is_escaped() {
        assert_eq!(escaped("root=UUID=1-2 ro quiet"), "root=UUID=1-2 ro quiet");
        assert_eq!(
            escaped("pci=resource_alignment=20@0:1;21@0:2 memmap=64M$0x1000"),
            "pci=resource_alignment=20@0:1\\;21@0:2 memmap=64M\\$0x1000"
        );
        assert_eq!(escaped("dyndbg=\"a;b\" ro"), "dyndbg=\"a;b\" ro");
    }
}
