// SPDX-License-Identifier: GPL-2.0

//! Commands on images whose log, free map or saved data is damaged or was made up.

mod common;

use std::fs;
use std::process::Command;

use bow_model::hostile::{scattered, seal, Log};
use bow_model::log::Version;

use common::{bowctl, code, ends, json, Image};

#[test]
fn saved_data_that_is_damaged() {
    let image = Image::new(Version::V1_1, 1024);
    let log = json(&image.run(&["log", "--json"]), 0);
    let entry = &log["blocks"][0]["entries"][0];
    let dest = entry["dest"].as_u64().unwrap();
    let at = dest as usize * 512 + 77;

    image.damage(at, &[image.data()[at] ^ 1]);
    let damaged = image.data();
    for command in ["restore", "check"] {
        let (_, err) = ends(&image.run(&[command]), code::DAMAGED);

        // The entry, its place, what is wrong, what to do.
        for part in [
            &format!("entry {}", entry["index"]),
            &format!("dest sector {dest}"),
            "checksum",
            "Nothing was written",
            "bowctl commit",
        ] {
            assert!(err.contains(part), "no \"{part}\" in: {err}");
        }
        assert!(image.data() == damaged, "the image was written to");
    }
    ends(&image.run(&["commit"]), 0);
    // The byte was in a backup, which the new state does not need.
    image.assert_kept();
}

/// The old state comes back, and it is said what does not go away.
#[test]
fn a_free_map_that_is_damaged() {
    let image = Image::new(Version::V1_2, 1024);
    let at = image.history.map.0 as usize * 512 + 8;

    image.damage(at, &[image.data()[at] ^ 1]);
    let damaged = image.data();
    let (out, err) = ends(&image.run(&["check"]), code::DAMAGED);
    assert!(out.contains("the log is good"), "{out}");
    for part in ["free map", "checksum", "bowctl restore"] {
        assert!(err.contains(part), "no \"{part}\" in: {err}");
    }
    assert!(image.data() == damaged, "the image was written to");
    let (_, err) = ends(&image.run(&["restore"]), 0);
    for part in ["still there", "checksum", "fstrim"] {
        assert!(err.contains(part), "no \"{part}\" in: {err}");
    }
    image
        .history
        .assert(&image.data(), image.history.rolled_back(), "rolled back");
}

/// Refusals to resume say the reason, and what is left to do. Resuming itself is tested with the kernel.
#[test]
fn checkpoints_that_cannot_be_resumed() {
    let refused = |image: &Image, code, parts: &[&str]| {
        let before = image.data();
        let path = image.path.to_str().unwrap();
        let (_, err) = ends(&bowctl(&["resume", "bowctl-test", path]), code);

        for part in parts {
            assert!(err.contains(part), "no \"{part}\" in: {err}");
        }
        assert!(image.data() == before, "the image was written to");
    };
    let ways_out = ["bowctl restore", "bowctl commit", "Nothing was written"];

    for (version, shown) in [(Version::V1_0, "1.0"), (Version::V1_1, "1.1")] {
        let parts = [&ways_out[..], &[shown]].concat();
        refused(&Image::new(version, 1024), code::STATE, &parts);
    }

    let image = Image::new(Version::V1_2, 1024);
    let (out, _) = ends(&image.run(&["status"]), 0);
    assert!(out.contains("bowctl resume"), "{out}");
    let at = image.history.map.0 as usize * 512 + 8;
    image.damage(at, &[image.data()[at] ^ 1]);
    let parts = [&ways_out[..], &["free map", "checksum"]].concat();
    refused(&image, code::STATE, &parts);
    ends(&image.run(&["restore"]), 0);
    refused(&image, code::NO_LOG, &["bowctl create"]);

    let mut image = Image::new(Version::V1_2, 1024);
    image.history.disk[..3].copy_from_slice(b"WOB");
    seal(&mut image.history.disk[..512]);
    fs::write(&image.path, &image.history.disk).unwrap();
    refused(&image, code::RESTORING, &["bowctl restore"]);
}

#[test]
fn a_log_block_that_is_damaged() {
    let image = Image::new(Version::V1_1, 4096);

    image.damage(100, &[image.data()[100] ^ 4]);
    let damaged = image.data();
    for command in ["restore", "check", "commit", "log"] {
        let (_, err) = ends(&image.run(&[command]), code::DAMAGED);

        assert!(
            err.contains("sector 0") && err.contains("checksum"),
            "{err}"
        );
        assert!(image.data() == damaged, "the image was written to");
    }
    let status = json(&image.run(&["status", "--json"]), 0);
    assert_eq!(status[0]["log"], "damaged");
}

/// Fields at their limits, one at a time, each with a right checksum: the command says which it is,
/// ends with the code for a damaged log, and writes nothing.
#[test]
fn logs_that_somebody_made_up() {
    const BLOCK: usize = 1024;
    // Offsets of fields in the header and, behind it, in entry 1.
    const ENTRY: usize = 80 + 24;
    let wide = |value: u64| value.to_le_bytes().to_vec();
    let small = |value: u32| value.to_le_bytes().to_vec();
    let cases = [
        (4, vec![1, 2], "header_version is 2.1"),
        (6, vec![0, 0], "header_size 0"),
        (6, vec![255, 255], "header_size 65535"),
        (8, small(0), "block_size is 0"),
        (8, small(8192), "block_size is 8192"),
        (8, small(u32::MAX), "block_size is 4294967295"),
        (12, small(0), "no entries"),
        (12, small(19), "count is 19, room is for 18"),
        (12, small(u32::MAX), "count is 4294967295"),
        (16, small(200), "sequence is 200"),
        (16, small(u32::MAX), "sequence is 4294967295"),
        (20, wide(0), "sector0 is 0"),
        (20, wide(400), "sector0 is 400"),
        (20, wide(u64::MAX), "sector0 is 18446744073709551615"),
        (ENTRY, wide(0), "entry 1 (source sector 0"),
        (ENTRY, wide(41), "not whole blocks"),
        (ENTRY, wide(400), "source is beyond the end"),
        (ENTRY, wide(u64::MAX - 1), "source is beyond the end"),
        (ENTRY, wide(60), "source and dest overlap"),
        (ENTRY + 8, wide(0), "dest is the log block"),
        (ENTRY + 8, wide(400), "dest is beyond the end"),
        (ENTRY + 8, wide(1 << 63), "dest is beyond the end"),
        (ENTRY + 16, small(1), "not whole blocks"),
        (ENTRY + 16, small(u32::MAX - 1023), "beyond the end"),
        (ENTRY + 20, small(7), "the saved data has checksum"),
    ];
    let entry = |source, dest, checksum| bow_decisions::log::Entry {
        source,
        dest,
        size: BLOCK as u32,
        checksum,
    };
    let log = Log {
        version: Version::V1_1,
        restoring: false,
        block_size: BLOCK as u32,
        sequence: 0,
        sector0: 20,
        uuid: 3,
        entries: vec![entry(0, 40, 0), entry(50, 60, 0)],
    };
    let image = Image::new(Version::V1_1, BLOCK);
    let start = |at: usize, field: &[u8]| {
        let mut first = log.bytes();

        first.resize(BLOCK, 0);
        first[at..at + field.len()].copy_from_slice(field);
        seal(&mut first);
        image.damage(0, &first);
        image.data()
    };

    start(0, b"BOW");
    ends(&image.run(&["check"]), 0);
    for (at, field, message) in cases {
        let made_up = start(at, &field);

        for command in ["restore", "check"] {
            let (_, err) = ends(&image.run(&[command]), code::DAMAGED);

            assert!(err.contains(message), "no \"{message}\" in: {err}");
            assert!(err.contains("Nothing was written"), "{err}");
            assert!(image.data() == made_up, "the image was written to");
        }
    }

    // A device that has lost its end, and with it the relocated first block.
    start(0, b"BOW");
    fs::write(&image.path, &image.data()[..20 * 512]).unwrap();
    for command in ["restore", "check", "commit"] {
        let (_, err) = ends(&image.run(&[command]), code::DAMAGED);
        assert!(err.contains("sector0 is 20"), "{err}");
    }
}

/// A log that is its own predecessor, and one whose chain goes round.
#[test]
fn logs_in_a_circle() {
    let image = Image::new(Version::V1_1, 512);
    let log = |sequence, next| {
        Log {
            version: Version::V1_1,
            restoring: false,
            block_size: 512,
            sequence,
            sector0: 5,
            uuid: 3,
            entries: vec![bow_decisions::log::Entry {
                source: 0,
                dest: next,
                size: 512,
                checksum: 0,
            }],
        }
        .bytes()
    };

    for (first, others) in [
        (log(3, 9), [log(3, 9), log(3, 9)]),
        (log(3, 9), [log(2, 11), log(3, 9)]),
    ] {
        image.damage(0, &first);
        image.damage(9 * 512, &others[0]);
        image.damage(11 * 512, &others[1]);
        let made_up = image.data();

        for command in ["restore", "check", "log"] {
            let (_, err) = ends(&image.run(&[command]), code::DAMAGED);

            assert!(err.contains("sequence is 3, expected is"), "{err}");
            assert!(image.data() == made_up, "the image was written to");
        }
    }
}

/// 4 KB that would have a reader fill its memory, on a sparse image of 2 TiB.
#[test]
fn a_log_that_is_scattered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.img");

    fs::write(&path, scattered(4).bytes()).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_len(2 << 40))
        .expect("the file system has files of 2 TiB");
    for command in ["check", "restore", "log"] {
        // In kilobytes.
        let limited = "ulimit -v 500000; exec \"$@\"";
        let output = Command::new("sh")
            .args(["-c", limited, "sh", env!("CARGO_BIN_EXE_bowctl"), command])
            .arg(&path)
            .output()
            .unwrap();
        let (_, err) = ends(&output, code::DAMAGED);

        assert!(err.contains("pieces"), "{err}");
    }
}
