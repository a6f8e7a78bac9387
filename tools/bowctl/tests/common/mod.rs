// SPDX-License-Identifier: GPL-2.0

//! An image with a history, and runs of `bowctl` on it.

// Not all of this is used by each of the tests.
#![allow(dead_code)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use bow_model::history::{History, Op};
use bow_model::log::Version;
use serde_json::Value;
use tempfile::TempDir;

/// Exit codes, as the manual page has them.
pub(crate) mod code {
    pub(crate) const FAILED: i32 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NO_LOG: i32 = 3;
    pub(crate) const DAMAGED: i32 = 4;
    pub(crate) const IN_USE: i32 = 5;
    pub(crate) const RESTORING: i32 = 6;
    pub(crate) const STATE: i32 = 7;
}

/// An image with a history.
pub(crate) struct Image {
    _folder: TempDir,
    pub(crate) path: PathBuf,
    pub(crate) history: History,
}

impl Image {
    pub(crate) fn new(version: Version, block_size: usize) -> Self {
        Self::sized(version, block_size, 200, 60)
    }

    pub(crate) fn sized(version: Version, block_size: usize, blocks: usize, writes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        // Grants take space as well.
        let in_use = usize::from(version != Version::V1_2);
        let free: Vec<_> = (0..blocks).map(|block| block % 4 > in_use).collect();
        let mut history = History::new(version, block_size, &free, 42).unwrap();
        let ops: Vec<_> = (0..writes)
            .map(|i| Op::Write {
                block: i * 37 % blocks,
                blocks: 1 + i % 2,
            })
            .collect();

        assert!(history.run(&ops));
        fs::write(&path, &history.disk).unwrap();
        Self {
            _folder: folder,
            path,
            history,
        }
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Changes bytes of the image.
    pub(crate) fn damage(&self, at: usize, bytes: &[u8]) {
        let mut data = self.data();

        data[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&self.path, data).unwrap();
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();

        args.push(self.path.display().to_string());
        bowctl(&args)
    }

    pub(crate) fn assert_rolled_back(&self) {
        self.history.assert_rolled_back(&self.data(), "rolled back");
    }

    pub(crate) fn assert_kept(&self) {
        self.history
            .assert(&self.data(), self.history.kept(), "kept");
    }

    pub(crate) fn assert_untouched(&self) {
        assert!(self.data() == self.history.disk, "the image was written to");
    }
}

pub(crate) fn bowctl<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bowctl"))
        .args(args)
        .output()
        .unwrap()
}

/// Returns standard output, and standard error, of a run that ends with `code`.
#[track_caller]
pub(crate) fn ends(output: &Output, code: i32) -> (String, String) {
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    let err = String::from_utf8(output.stderr.clone()).unwrap();

    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[track_caller]
pub(crate) fn json(output: &Output, code: i32) -> Value {
    serde_json::from_str(&ends(output, code).0).unwrap()
}
