// SPDX-License-Identifier: GPL-2.0

//! Commands on an image with a good log, and command lines that name none.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bow_model::log::Version;
use serde_json::Value;

use common::{bowctl, code, ends, json, Image};

#[test]
fn restore_gives_the_old_state_back() {
    for version in Version::ALL {
        for block_size in [512, 1024, 2048, 4096] {
            let image = Image::new(version, block_size);
            let (out, _) = ends(&image.run(&["restore"]), 0);

            assert!(out.contains("restored"), "{out}");
            assert_eq!(out.contains("to zero"), version == Version::V1_2, "{out}");
            image.assert_rolled_back();
            let (_, err) = ends(&image.run(&["restore"]), code::NO_LOG);
            assert!(err.contains("no checkpoint"), "{err}");
            image.assert_rolled_back();
        }
    }
}

#[test]
fn commit_keeps_the_new_state() {
    for version in Version::ALL {
        for block_size in [512, 4096] {
            let image = Image::new(version, block_size);

            ends(&image.run(&["commit", "--dry-run"]), 0);
            image.assert_untouched();
            let (out, _) = ends(&image.run(&["commit"]), 0);
            assert!(out.contains("new state is kept"), "{out}");
            image.assert_kept();
            ends(&image.run(&["commit"]), code::NO_LOG);
            ends(&image.run(&["restore"]), code::NO_LOG);
            image.assert_kept();
        }
    }
}

#[test]
fn looking_writes_nothing() {
    let image = Image::new(Version::V1_1, 1024);

    for args in [
        &["restore", "--dry-run"][..],
        &["check"],
        &["check", "--json"],
        &["log"],
        &["log", "--json"],
        &["status"],
        &["status", "--json"],
    ] {
        let (out, _) = ends(&image.run(args), 0);

        assert!(!out.is_empty());
        image.assert_untouched();
    }
}

#[test]
fn the_status_of_a_plain_device() {
    let image = Image::new(Version::V1_1, 1024);
    let status = json(&image.run(&["status", "--json"]), 0);
    let status = &status[0];

    assert_eq!(status["kind"], "plain");
    assert_eq!(status["log"], "checkpoint");
    assert!(status["space"]["backups"].as_u64().unwrap() > 0);
    assert_eq!(status["space"]["free"], Value::Null);
    let (out, _) = ends(&image.run(&["status"]), 0);
    for part in [
        "an open checkpoint",
        "used by backups",
        "bowctl restore --dry-run",
    ] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn what_is_no_device() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let empty = folder.path().join("empty");
    let short = folder.path().join("short");
    let run = |command: &str, path: &Path| bowctl(&[command, path.to_str().unwrap()]);

    fs::write(&empty, "").unwrap();
    fs::write(&short, "BOW").unwrap();
    for command in ["restore", "commit", "log", "check"] {
        let (_, err) = ends(&run(command, &missing), code::FAILED);
        assert!(err.contains("missing"), "{err}");
        ends(&run(command, folder.path()), code::USAGE);
        ends(&run(command, &empty), code::NO_LOG);
        ends(&run(command, &short), code::NO_LOG);
    }
    let (_, err) = ends(&run("checkpoint", &empty), code::FAILED);
    assert!(err.contains("bowctl create"), "{err}");
}

#[test]
fn the_command_line() {
    for args in [
        &[][..],
        &["restore"],
        &["forget", "x"],
        &["create", "name"],
        &["create", "--block-size", "513", "name", "device"],
        &["create", "--on-full", "panic", "name", "device"],
    ] {
        ends(&bowctl(args), code::USAGE);
    }
    let (out, _) = ends(&bowctl(&["--help"]), 0);
    for part in ["Examples:", "Exit codes:", "bowctl restore --dry-run"] {
        assert!(out.contains(part), "{out}");
    }
    for command in [
        "create",
        "resume",
        "checkpoint",
        "commit",
        "remove",
        "status",
        "restore",
        "log",
        "check",
        "map",
        "diff",
    ] {
        ends(&bowctl(&[command, "--help"]), 0);
        assert!(out.contains(command));
    }
    ends(&bowctl(&["--version"]), 0);
}

#[test]
fn an_image_that_is_locked() {
    let image = Image::new(Version::V1_1, 1024);
    let file = fs::File::open(&image.path).unwrap();

    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    for command in ["restore", "commit", "check"] {
        let (_, err) = ends(&image.run(&[command]), code::IN_USE);

        assert!(
            err.contains(&format!("process {}", std::process::id())),
            "{err}"
        );
    }
    // Only looking needs no lock.
    ends(&image.run(&["log"]), 0);
    image.assert_untouched();
    // A lock that is held for a moment is waited for.
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(1));
        drop(file);
    });
    ends(&image.run(&["restore"]), 0);
    release.join().unwrap();
    image.assert_rolled_back();
}

/// A commit of several that was cut off is completed by the same command, and `status` says so.
#[test]
fn a_commit_of_several() {
    let images = [
        Image::new(Version::V1_1, 1024),
        Image::new(Version::V1_1, 4096),
        Image::new(Version::V1_1, 512),
    ];
    let paths = images.each_ref().map(|image| image.path.to_str().unwrap());
    let all = |args: &[&str]| bowctl(&[args, &paths].concat());

    ends(&images[1].run(&["commit"]), 0);
    let (out, _) = ends(&all(&["status"]), 0);
    let advice = format!("`bowctl commit {} {}` completes it", paths[0], paths[2]);
    assert!(out.contains(&advice), "{out}");
    // All are looked at first.
    images[2].damage(100, &[images[2].data()[100] ^ 4]);
    ends(&all(&["commit"]), code::DAMAGED);
    images[0].assert_untouched();
    images[2].damage(100, &[images[2].data()[100] ^ 4]);
    let (out, _) = ends(&all(&["commit"]), 0);
    assert!(out.contains("no checkpoint, nothing to do"), "{out}");
    images.iter().for_each(Image::assert_kept);
    ends(&all(&["commit"]), code::NO_LOG);
    let (out, _) = ends(&all(&["status"]), 0);
    assert!(!out.contains("completes it"), "{out}");
}

#[test]
fn a_restore_that_has_begun() {
    let image = Image::new(Version::V1_0, 4096);

    image.damage(0, b"WOB");
    let marked = image.data();
    let (_, err) = ends(&image.run(&["commit"]), code::RESTORING);
    assert!(err.contains("bowctl restore"), "{err}");
    assert!(image.data() == marked, "the image was written to");
    let status = json(&image.run(&["status", "--json"]), 0);
    assert_eq!(status[0]["log"], "restoring");
    ends(&image.run(&["restore"]), 0);
    image.assert_rolled_back();
}

/// Killed again and again, in the middle of it, until it is done.
#[test]
fn a_restore_that_is_killed() {
    let image = Image::sized(Version::V1_1, 4096, 2500, 500);
    let mut killed = 0;
    let mut wait = Duration::from_micros(500);

    loop {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bowctl"))
            .arg("restore")
            .arg(&image.path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();

        std::thread::sleep(wait);
        wait = wait * 11 / 10;
        child.kill().unwrap();
        let status = child.wait().unwrap();
        if status.success() || status.code() == Some(code::NO_LOG) {
            break;
        }
        assert_eq!(status.code(), None, "it did not fail by itself");
        killed += 1;
    }
    assert!(killed > 0);
    image.assert_rolled_back();
}

/// A sparse image of 16 TiB, with the log's places near its end.
#[test]
fn a_device_of_16_tib() {
    use std::os::unix::fs::FileExt;

    // No file of ext4 can be larger.
    const SIZE: u64 = (16 << 40) - 4096;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.img");
    let file = fs::File::create_new(&path).unwrap();

    file.set_len(SIZE)
        .expect("the file system has files of 16 TiB");
    // Blocks counted from the end.
    let sector = |block: u64| (SIZE - block * 4096) / 512;
    let identity = bow_decisions::log::Identity {
        uuid: [1; 16],
        time: 0,
    };
    let mut log = bow_decisions::log_block::LogBlock::new(4096, identity, sector(1));
    for (source, dest, fill) in [(0, sector(2), 0x11), (sector(4), sector(3), 0x22)] {
        let data = [fill; 4096];

        file.write_all_at(&data, dest * 512).unwrap();
        log.push(bow_decisions::log::Entry {
            source,
            dest,
            size: 4096,
            checksum: bowctl::crc::crc32(bow_decisions::log::entry_seed(source, 4096), &data),
        })
        .unwrap();
    }
    let mut first = [0; 512];
    log.encode(&mut first, bowctl::crc::crc32);
    file.write_all_at(&first, 0).unwrap();

    ends(&bowctl(&["restore", path.to_str().unwrap()]), 0);
    let file = fs::File::open(&path).unwrap();
    let mut data = [0; 4096];
    file.read_exact_at(&mut data, 0).unwrap();
    assert_eq!(data, [0x11; 4096]);
    file.read_exact_at(&mut data, sector(4) * 512).unwrap();
    assert_eq!(data, [0x22; 4096]);
}
