// SPDX-License-Identifier: GPL-2.0

//! The commands that show what has changed since the checkpoint: `map` and `diff`.

mod common;

use std::fs;
use std::process::Command;

use bow_model::history::{History, Op};
use bow_model::log::Version;
use serde_json::Value;

use common::{bowctl, code, ends, json, Image};

#[test]
fn a_map_of_a_device() {
    let image = Image::new(Version::V1_1, 1024);
    let map = json(&image.run(&["map", "--json"]), 0);
    let sum: u64 = map["totals"]
        .as_object()
        .unwrap()
        .values()
        .map(|bytes| bytes.as_u64().unwrap())
        .sum();

    assert_eq!(map["free_map"], false);
    assert_eq!(map["block_size"], 1024);
    assert_eq!(map["sectors"], 400);
    assert_eq!(sum, 400 * 512);
    assert_eq!(map["extents"][0]["kind"], "log");
    for block in map["extents"].as_array().unwrap() {
        let sector = block["sector"].as_u64().unwrap() as usize;
        let was_free = image.history.free_at_checkpoint[sector / 2];

        match block["kind"].as_str().unwrap() {
            "changed" => assert!(!was_free, "{block}"),
            "backup" | "granted" => assert!(was_free, "{block}"),
            _ => {}
        }
    }

    let (out, err) = ends(&image.run(&["map"]), 0);
    for part in ["checkpoint", "backup", "changed", "A letter is 4.00 KiB"] {
        assert!(out.contains(part), "{out}");
    }
    assert!(!out.contains('\x1b'));
    assert!(err.contains("no free map"), "{err}");

    let svg = image.path.with_extension("svg");
    ends(&image.run(&["map", "--svg", svg.to_str().unwrap()]), 0);
    assert!(fs::read_to_string(svg).unwrap().contains("<title>"));
    image.assert_untouched();

    ends(&image.run(&["restore"]), 0);
    ends(&image.run(&["map"]), code::NO_LOG);
    ends(&image.run(&["diff"]), code::NO_LOG);
}

#[test]
fn what_has_changed() {
    for (version, block_size) in [(Version::V1_0, 512), (Version::V1_1, 4096)] {
        let image = Image::new(version, block_size);
        let history = &image.history;
        let sectors = block_size as u64 / 512;
        let blocks = |diff: &Value| -> Vec<u64> {
            diff["extents"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|extent| {
                    let sector = extent["sector"].as_u64().unwrap();

                    (sector..sector + extent["sectors"].as_u64().unwrap())
                        .step_by(sectors as usize)
                        .map(|sector| sector / sectors)
                })
                .collect()
        };
        let differ: Vec<u64> = (0..history.blocks() as u64)
            .filter(|block| {
                let at = *block as usize * block_size;

                !history.free_at_checkpoint[*block as usize]
                    && history.old[at..at + block_size] != history.new[at..at + block_size]
            })
            .collect();

        // The model copies nothing that is not written to, and writes nothing that is as before.
        let diff = json(&image.run(&["diff", "--json"]), 0);
        assert!(!differ.is_empty());
        assert_eq!(blocks(&diff), differ);
        assert_eq!(diff["changed_bytes"], differ.len() * block_size);
        assert_eq!(diff["granted_bytes"], Value::Null);
        assert_eq!(diff["files"], Value::Null);
        assert!(diff["files_note"].as_str().unwrap().contains("ext2"));
        let compared = json(&image.run(&["diff", "--json", "--compare"]), 0);
        assert_eq!(blocks(&compared), differ);

        let (out, _) = ends(&image.run(&["diff"]), 0);
        assert!(
            out.contains("files: not known, since only those of ext2"),
            "{out}"
        );
        let (out, _) = ends(&image.run(&["diff", "--no-files"]), 0);
        assert!(!out.contains("files"), "{out}");
        image.assert_untouched();
    }
}

/// Writes that a file system has made, found by the names of its files.
#[test]
fn the_files_that_have_changed() {
    const BLOCK: usize = 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    let files = folder.path().join("files");
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();

        // Where there is no e2fsprogs, `bowctl` says so.
        output.is_ok_and(|output| output.status.success())
    };

    fs::create_dir(&files).unwrap();
    for name in ["one", "two", "three"] {
        fs::write(files.join(name), name.repeat(3000)).unwrap();
    }
    let shown = path.to_str().unwrap();
    // With groups of 8 MiB, so that there is a copy of the superblock.
    let made = run(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-b",
            "1024",
            "-d",
            files.to_str().unwrap(),
            shown,
            "24M",
        ],
    );
    if !made {
        return;
    }
    let disk = fs::read(&path).unwrap();
    let at = disk
        .windows(24)
        .position(|bytes| bytes == "twotwotwotwotwotwotwotwo".as_bytes())
        .unwrap();
    // Zeroes elsewhere may be inode tables.
    let tail = disk.len() / BLOCK - 500;
    let free: Vec<_> = disk
        .chunks(BLOCK)
        .enumerate()
        .map(|(index, block)| index >= tail && block.iter().all(|byte| *byte == 0))
        .collect();
    let mut history =
        History::on(disk.clone(), Version::V1_1, BLOCK, &free, 1_700_000_000, 1).unwrap();

    assert!(history.run(&[Op::Write {
        block: at / BLOCK,
        blocks: 1
    }]));
    fs::write(&path, &history.disk).unwrap();
    let diff = json(&bowctl(&["diff", "--json", shown]), 0);
    let names: Vec<_> = diff["files"]
        .as_array()
        .unwrap_or_else(|| panic!("{diff}"))
        .iter()
        .flat_map(|file| file["paths"].as_array().unwrap())
        .collect();

    // Blocks of the file system are smaller, so that a neighbour may be in there too.
    assert!(names.iter().any(|name| *name == "/two"), "{diff}");
    assert_eq!(diff["files_complete"], true);
    assert_eq!(diff["changed_bytes"], BLOCK);
    assert!(
        fs::read(&path).unwrap() == history.disk,
        "it was written to"
    );
}
