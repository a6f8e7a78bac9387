// SPDX-License-Identifier: GPL-2.0

//! The environment block of GRUB, by which GRUB counts the boots of a system on trial (`/etc/grub.d/01_bow`).
//!
//! The block is written while the checkpoint is open, and so has a backup before GRUB itself writes to it, below
//! dm-bow. A rollback brings back the block without the count.
//!
//! The file is written as GRUB writes it, in its place. `grub-editenv` truncates it first: a power cut then leaves an
//! empty file, and GRUB, which replays no journal, may find the old one, and write to a block that is another's.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use super::{marks, programs};
use crate::error::{CommandError, Result};

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

/// Has GRUB count down from `tries`. Returns from where GRUB does, or `tries` where there is no GRUB that counts.
///
/// # Errors
///
/// The error of `grub-editenv`.
pub fn set_tries(tries: u8) -> Result<u8> {
    if !counts() {
        return Ok(tries);
    }
    let tries = tries.min(TRIES_MAX);
    edit("set", &format!("{TRIES}={tries}"))?;
    Ok(tries)
}

/// Changes the environment block as `grub-editenv` does by these words, in its place.
fn edit(action: &str, words: &str) -> Result {
    let path = Path::new(ENVIRONMENT);
    let failed = |error: io::Error| CommandError::io(ENVIRONMENT, &error);

    // Missing, or left so by a power cut.
    if fs::metadata(path).map_or(0, |file| file.len()) == 0 {
        programs::output("grub-editenv", &[ENVIRONMENT, "create"])?;
    }
    let old = fs::read(path).map_err(failed)?;
    let copy = Path::new(marks::FOLDER).join("grubenv");
    fs::create_dir_all(marks::FOLDER)
        .and_then(|()| fs::write(&copy, &old))
        .map_err(failed)?;
    programs::output(
        "grub-editenv",
        &[&copy.display().to_string(), action, words],
    )?;
    let new = fs::read(&copy).map_err(failed)?;

    match new == old {
        true => Ok(()),
        false => overwrite(path, &new).map_err(failed),
    }
}

/// Writes to the beginning of a file, and leaves its blocks where they are.
fn overwrite(path: &Path, data: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;

    file.write_all(data)?;
    file.sync_all()
}

/// Has GRUB count no more.
///
/// # Errors
///
/// The error of `grub-editenv`.
pub fn unset_tries() -> Result {
    if counts() {
        edit("unset", TRIES)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_in_its_place() {
        use std::os::unix::fs::MetadataExt;

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grubenv");
        let missing = overwrite(&path, b"new").unwrap_err();

        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        fs::write(&path, b"old contents").unwrap();
        let inode = path.metadata().unwrap().ino();
        overwrite(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new contents");
        assert_eq!(path.metadata().unwrap().ino(), inode);
    }

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
