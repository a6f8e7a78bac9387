// SPDX-License-Identifier: GPL-2.0

//! Devices that were written to without dm-bow while they held a checkpoint.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use bow_model::disk::Disk;
use bow_model::history::{History, Op};
use bow_model::log::Version;
use bow_model::restore::restore;
use bowctl::progress::Progress;
use bowctl::recovery::foreign;
use bowctl::recovery::{self, CheckOptions};
use serde_json::Value;
use tempfile::TempDir;

const OK: i32 = 0;
const STATE: i32 = 7;

/// Time of the checkpoint.
const TIME: u64 = 1_800_000_000;
const BLOCKS: usize = 200;

/// Makes a history over a device that has `superblock` at 1024, with writes that touch it or not.
fn history(block_size: usize, superblock: &[u8], touch: bool) -> History {
    let free: Vec<_> = (0..BLOCKS).map(|block| block > 40).collect();
    let mut disk = vec![0x5a; BLOCKS * block_size];
    disk[1024..1024 + superblock.len()].copy_from_slice(superblock);
    let mut history = History::on(disk, Version::V1_1, block_size, &free, TIME, 7).unwrap();
    let mut ops = vec![Op::Write {
        block: 20,
        blocks: 10,
    }];

    if touch {
        ops.push(Op::Write {
            block: 1024 / block_size,
            blocks: 2,
        });
    }
    assert!(history.run(&ops));
    history
}

/// Returns a superblock of ext4 with these times and this number of mounts.
fn ext4(mounted: u64, written: u64, checked: u64, mounts: u16) -> Vec<u8> {
    let mut data = vec![0; 1024];

    for (at, value) in [(0x2c, mounted), (0x30, written), (0x40, checked)] {
        data[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
    }
    data[0x275] = (mounted >> 32) as u8;
    data[0x274] = (written >> 32) as u8;
    data[0x277] = (checked >> 32) as u8;
    data[0x34..0x36].copy_from_slice(&mounts.to_le_bytes());
    data[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    data[0x18] = 2;
    data[0x4c] = 1;
    data
}

/// An image file.
struct Image {
    _folder: TempDir,
    path: PathBuf,
}

impl Image {
    fn new(data: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");

        fs::write(&path, data).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    #[track_caller]
    fn ends(&self, args: &[&str], code: i32) -> (String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new(env!("CARGO_BIN_EXE_bowctl"))
            .args(args)
            .arg(&self.path)
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8(stdout).unwrap(),
            String::from_utf8(stderr).unwrap(),
        );

        assert_eq!(status.code(), Some(code), "{args:?}: {out}{err}");
        (out, err)
    }

    fn data(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

/// Checks that status and restore name `what`, and nothing is written until the restore is forced.
#[track_caller]
fn noticed(history: &History, disk: &[u8], what: &str) {
    let image = Image::new(disk);
    let (out, _) = image.ends(&["status"], OK);
    let json: Value = serde_json::from_str(&image.ends(&["status", "--json"], OK).0).unwrap();

    assert!(
        out.contains("without dm-bow") && out.contains(what),
        "{out}"
    );
    assert_eq!(json[0]["foreign_writes"].as_array().unwrap().len(), 1);
    for args in [&["restore"][..], &["restore", "--dry-run"]] {
        let (_, err) = image.ends(args, STATE);

        for part in [what, "--force", "fsck", "Nothing was written"] {
            assert!(err.contains(part), "no \"{part}\" in: {err}");
        }
        assert!(image.data() == disk, "the image was written to");
    }
    let (_, err) = image.ends(&["restore", "--force"], OK);
    assert!(err.contains("fsck -f"), "{err}");
    history.assert(&image.data(), history.rolled_back(), "by force");
}

#[track_caller]
fn not_noticed(history: &History, disk: &[u8]) {
    let image = Image::new(disk);
    let (out, _) = image.ends(&["status"], OK);

    assert!(!out.contains("without"), "{out}");
    let (_, err) = image.ends(&["restore"], OK);
    assert_eq!(
        err.lines().filter(|line| line.contains("without")).count(),
        0
    );
    history.assert(&image.data(), history.rolled_back(), "restored");
}

#[test]
fn the_rest_of_the_first_block() {
    for block_size in [1024, 2048, 4096] {
        let history = history(block_size, &[], true);

        not_noticed(&history, &history.disk);
        for at in [512, block_size - 1] {
            let mut disk = history.disk.clone();

            disk[at] = 1;
            noticed(&history, &disk, &format!("at byte {}", at / 512 * 512));
        }
    }
}

/// `e2fsck -b` puts a superblock there.
#[test]
fn a_superblock_in_the_first_block() {
    for block_size in [2048, 4096] {
        let history = history(block_size, &[], false);
        let mut disk = history.disk.clone();

        disk[1024..2048].copy_from_slice(&ext4(TIME, 1_800_000_600, TIME, 1));
        noticed(&history, &disk, "written 2027-01-15 08:10:00 UTC");
    }
}

/// The contents of the first block while the log is written over it, or is replaced, are no trace;
/// whichever of its sectors arrived.
#[test]
fn a_cut_between_two_states() {
    let history = history(4096, &[], false);
    let mut next = Disk::new(history.disk.clone());
    recovery::commit(&mut next).unwrap();

    for sectors in 0..1 << 7 {
        let mut disk = history.disk.clone();

        for sector in (1..8).filter(|sector| (sectors >> (sector - 1)) & 1 == 1) {
            let range = sector * 512..(sector + 1) * 512;

            disk[range.clone()].copy_from_slice(&next.data[range]);
        }
        let device = Disk::new(disk);
        let log = recovery::check(
            &device,
            CheckOptions::default(),
            &mut Progress::hidden(),
            |_| (),
        )
        .unwrap();
        assert_eq!(foreign::traces(&device, &log).unwrap(), [""; 0]);
    }
}

#[test]
fn a_superblock_without_a_backup() {
    for block_size in [512, 1024] {
        for (superblock, young) in [
            (ext4(TIME - 9, TIME, TIME - 99, 3), false),
            (ext4(TIME + 1, TIME, TIME - 99, 3), true),
            (ext4(TIME - 9, TIME + 1, TIME - 99, 3), true),
            (ext4(TIME - 9, TIME, TIME + 1, 0), true),
            (ext4(TIME - 9, TIME + (1 << 32), TIME - 99, 3), true),
        ] {
            let history = history(block_size, &superblock, false);

            if young {
                noticed(&history, &history.disk, "no backup");
            } else {
                not_noticed(&history, &history.disk);
            }
        }
    }
}

#[test]
fn a_superblock_with_a_backup() {
    let old = ext4(TIME - 9, TIME, TIME - 99, 3);

    for block_size in [512, 1024] {
        let history = history(block_size, &old, true);
        let with = |superblock: &[u8]| {
            let mut disk = history.disk.clone();

            disk[1024..2048].copy_from_slice(superblock);
            disk
        };

        // It is written through dm-bow, and mounted or remounted, too.
        for superblock in [
            ext4(TIME - 9, TIME + 60, TIME - 99, 3),
            ext4(TIME + 60, TIME + 60, TIME - 99, 4),
        ] {
            not_noticed(&history, &with(&superblock));
        }
    }
}

/// The log hides it, so that it is what the first block holds that counts.
#[test]
fn a_superblock_that_is_hidden() {
    let history = history(4096, &ext4(TIME - 9, TIME + 600, TIME - 99, 3), false);

    not_noticed(&history, &history.disk);
}

/// Once a restore has begun, only its end helps.
#[test]
fn a_restore_that_has_begun() {
    let history = history(4096, &[], false);
    let mut device = Disk::new(history.disk.clone());
    device.data[700] = 1;
    restore(&mut device).unwrap();
    // The first write is the mark.
    let mut marked = history.disk.clone();
    marked[..512].copy_from_slice(&first_write(&device)[..512]);
    marked[700] = 1;
    let image = Image::new(&marked);

    assert!(marked.starts_with(b"WOB"));
    let (_, err) = image.ends(&["restore"], OK);
    assert!(
        err.contains("without dm-bow") && err.contains("fsck -f"),
        "{err}"
    );
    history.assert(&image.data(), history.rolled_back(), "restored");
}

fn first_write(device: &Disk) -> Vec<u8> {
    device
        .requests
        .iter()
        .find_map(|request| match request {
            bow_model::disk::Request::Write { data, .. } => Some(data.clone()),
            bow_model::disk::Request::Flush => None,
        })
        .unwrap()
}

/// XFS, F2FS and NILFS2 read what is in free space later on.
#[test]
fn what_is_said_after_a_restore() {
    let restored = |begin: &[u8], block_size| {
        let free: Vec<_> = (0..BLOCKS).map(|block| block > 40).collect();
        let mut disk = vec![0; BLOCKS * block_size];
        disk[..begin.len()].copy_from_slice(begin);
        // The journal's record, at block 8 of group 1.
        disk[(32 + 8) * 512..][..8].copy_from_slice(&[0xfe, 0xed, 0xba, 0xbe, 0, 0, 0, 40]);
        let mut history = History::on(disk, Version::V1_1, block_size, &free, TIME, 7).unwrap();
        assert!(history.run(&[Op::Write {
            block: 0,
            blocks: 1
        }]));
        Image::new(&history.disk).ends(&["restore"], OK).1
    };
    let mut xfs = vec![0; 512];
    xfs[..8].copy_from_slice(b"XFSB\0\0\x02\0");
    // An AG has 32 blocks of 512 bytes.
    xfs[48..56].copy_from_slice(&((1_u64 << 5) | 8).to_be_bytes());
    xfs[84..88].copy_from_slice(&32_u32.to_be_bytes());
    xfs[124] = 5;
    let mut f2fs = vec![0; 2048];
    f2fs[1024..1028].copy_from_slice(&0xf2f5_2010_u32.to_le_bytes());
    let mut nilfs2 = vec![0; 2048];
    nilfs2[1030..1032].copy_from_slice(&[0x34, 0x34]);

    for block_size in [512, 4096] {
        let err = restored(&xfs, block_size);
        assert!(err.contains("xfs_db -x -c 'logformat -c 42'"), "{err}");
        let err = restored(&f2fs, block_size);
        assert!(err.contains("norecovery"), "{err}");
        let err = restored(&nilfs2, block_size);
        assert!(err.contains("NILFS2"), "{err}");
        let err = restored(&ext4(1, 1, 1, 1), block_size);
        assert!(err.contains("fstrim"), "{err}");
    }
}

/// The superblock with its checksum inverted, which stands after the log for boot loaders, is no trace; with any other
/// byte changed it is one.
#[test]
fn the_cover_is_no_trace() {
    for block_size in [2048, 4096] {
        let mut superblock = ext4(TIME - 9, TIME, TIME - 99, 3);
        superblock[0x65] = 0x04;
        superblock[0x175] = 1;
        let checksum = superblock[..0x3fc].iter().fold(!0, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc: u32, _| {
                (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
            })
        });
        superblock[0x3fc..].copy_from_slice(&checksum.to_le_bytes());

        let history = history(block_size, &superblock, true);
        let mut old = vec![0x5a; block_size];
        old[1024..2048].copy_from_slice(&superblock);
        old[2044..2048].copy_from_slice(&(!checksum).to_le_bytes());
        let mut disk = history.disk.clone();
        disk[512..block_size].copy_from_slice(&old[512..]);
        not_noticed(&history, &disk);

        disk[1024 + 0x34] ^= 1;
        noticed(&history, &disk, "at byte 1024");
    }
}
