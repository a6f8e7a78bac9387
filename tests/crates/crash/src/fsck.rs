// SPDX-License-Identifier: GPL-2.0

//! The judgement of e2fsck on a file system on a device that exists only here.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// A page of zeroes is not written, so that most of a file is a hole.
const PAGE: usize = 4096;

/// Writes what is not zero of `bytes` to `file`, from byte `at` on.
pub(crate) fn write_sparse(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    for (page, offset) in bytes.chunks(PAGE).zip((at..).step_by(PAGE)) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, offset)?;
        }
    }
    Ok(())
}

/// Checks that an ext4 is whole once its journal is replayed. `dir` is where it may lie as a file.
pub(crate) fn check(bytes: &[u8], dir: &Path) -> Result<(), String> {
    let name = format!("{:?}.img", std::thread::current().id());
    let path = dir.join(name.replace(['(', ')'], "-"));
    let written = File::create(&path).and_then(|file| {
        file.set_len(bytes.len() as u64)?;
        write_sparse(&file, 0, bytes)
    });
    written.map_err(|error| format!("{}: {error}", path.display()))?;

    // First what a boot does: the journal and orphans, which is no fault. Then all, and nothing may
    // be left to do.
    let verdict = run(&["-p"], &path, 1).and_then(|()| run(&["-fn"], &path, 0));
    let _ = fs::remove_file(&path);
    verdict
}

/// Runs e2fsck, which may exit with `most`.
fn run(arguments: &[&str], path: &Path, most: i32) -> Result<(), String> {
    let output = Command::new("e2fsck")
        .args(arguments)
        .arg(path)
        .output()
        .map_err(|error| format!("e2fsck: {error}"))?;
    match output.status.code() {
        Some(code) if code <= most => Ok(()),
        code => Err(format!(
            "e2fsck {}: exit {code:?}: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_bitmap_that_is_wrong_is_found() {
        let dir = std::env::temp_dir().join(format!("bow-crash-fsck-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("made");
        let made = Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "1024"])
            .arg(&path)
            .arg("4096")
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut bytes = fs::read(&path).unwrap();
        let whole = check(&bytes, &dir);
        // The descriptor of the first group, in the block after the superblock, says where its
        // bitmap is.
        let bitmap = u32::from_le_bytes(bytes[2048..2052].try_into().unwrap()) as usize * 1024;
        bytes[bitmap] ^= 0xff;
        let damaged = check(&bytes, &dir);
        fs::remove_dir_all(&dir).unwrap();
        assert_eq!(whole, Ok(()));
        assert!(damaged.is_err());
    }

    #[test]
    fn zeroes_are_not_written() {
        let path = std::env::temp_dir().join(format!("bow-crash-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        let mut bytes = vec![0; 3 * PAGE];
        bytes[PAGE + 1] = 7;
        write_sparse(&file, PAGE as u64, &bytes).unwrap();
        let written = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(written.len(), 3 * PAGE);
        assert_eq!(
            written.iter().position(|byte| *byte == 7),
            Some(2 * PAGE + 1)
        );
    }
}
