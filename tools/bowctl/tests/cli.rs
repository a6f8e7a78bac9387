// SPDX-License-Identifier: GPL-2.0

//! The command `bowctl` on images, good and broken ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use bow_model::history::{History, Op, Version};
use bow_model::hostile::{scattered, seal, Log};
use serde_json::Value;
use tempfile::TempDir;

/// Exit codes, as the manual page has them.
mod code {
    pub(crate) const FAILED: i32 = 1;
    pub(crate) const USAGE: i32 = 2;
    pub(crate) const NO_LOG: i32 = 3;
    pub(crate) const DAMAGED: i32 = 4;
    pub(crate) const IN_USE: i32 = 5;
    pub(crate) const RESTORING: i32 = 6;
    pub(crate) const STATE: i32 = 7;
}

/// An image with a history.
struct Image {
    _folder: TempDir,
    path: PathBuf,
    history: History,
}

impl Image {
    fn new(version: Version, block_size: usize) -> Self {
        Self::sized(version, block_size, 200, 60)
    }

    fn sized(version: Version, block_size: usize, blocks: usize, writes: usize) -> Self {
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

    fn data(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    /// Changes bytes of the image.
    fn damage(&self, at: usize, bytes: &[u8]) {
        let mut data = self.data();

        data[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&self.path, data).unwrap();
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut args: Vec<_> = args.iter().map(|arg| (*arg).to_owned()).collect();

        args.push(self.path.display().to_string());
        bowctl(&args)
    }

    fn assert_rolled_back(&self) {
        self.history.assert_rolled_back(&self.data(), "rolled back");
    }

    fn assert_kept(&self) {
        self.history
            .assert(&self.data(), self.history.kept(), "kept");
    }

    fn assert_untouched(&self) {
        assert!(self.data() == self.history.disk, "the image was written to");
    }
}

fn bowctl<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bowctl"))
        .args(args)
        .output()
        .unwrap()
}

/// Returns standard output, and standard error, of a run that ends with `code`.
#[track_caller]
fn ends(output: &Output, code: i32) -> (String, String) {
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    let err = String::from_utf8(output.stderr.clone()).unwrap();

    assert_eq!(output.status.code(), Some(code), "{out}{err}");
    (out, err)
}

#[track_caller]
fn json(output: &Output, code: i32) -> Value {
    serde_json::from_str(&ends(output, code).0).unwrap()
}

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

#[test]
fn the_log_as_json() {
    let image = Image::new(Version::V1_2, 512);
    let log = json(&image.run(&["log", "--json"]), 0);
    let blocks = log["blocks"].as_array().unwrap();
    let entries: u64 = blocks
        .iter()
        .map(|block| block["entries"].as_array().unwrap().len() as u64)
        .sum();

    assert_eq!(blocks.len() as u64, image.history.log_blocks());
    assert_eq!(
        entries,
        image.history.total_entries + image.history.grants as u64
    );
    let grants: usize = blocks
        .iter()
        .flat_map(|block| block["entries"].as_array().unwrap())
        .filter(|entry| entry["grant"] == true && entry["size"] == 0)
        .count();
    assert_eq!(grants, image.history.grants);
    assert_eq!(log["summary"]["entries"], image.history.total_entries);
    assert_eq!(blocks[0]["sector"], 0);
    assert_eq!(blocks[0]["version"], "1.2");
    assert_eq!(blocks[0]["free_map_sector"], image.history.map.0);
    assert_eq!(blocks[0]["free_map_blocks"], image.history.map.1);
    assert_eq!(blocks[0]["boot_action"], "none");
    let free = image
        .history
        .free_at_checkpoint
        .iter()
        .filter(|free| **free);
    let map = &log["summary"]["free_map"];
    assert_eq!(map["free_bytes"], free.count() * 512);
    assert!(map["zero_bytes"].as_u64().unwrap() > 0);
    assert_eq!(blocks[0]["sector0"], image.history.sector0());
    assert_eq!(blocks[0]["time"], image.history.identity().1);
    let uuid: String = image
        .history
        .identity()
        .0
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    let shown = blocks[0]["uuid"].as_str().unwrap().replace('-', "");
    assert_eq!(shown, uuid);
    assert_eq!(log["error"], Value::Null);

    let check = json(&image.run(&["check", "--json"]), 0);
    assert_eq!(check, log["summary"]);
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

/// The fields of each JSON object are in the help of the command that prints it.
#[test]
fn json_fields_are_documented() {
    fn fields(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    found.push(name.clone());
                    fields(value, found);
                }
            }
            Value::Array(array) => array.iter().for_each(|value| fields(value, found)),
            _ => {}
        }
    }
    let image = Image::new(Version::V1_1, 1024);
    let help = |command: &str| ends(&bowctl(&[command, "--help"]), 0).0;
    let blocks = [help("log"), help("check")].concat();

    for command in ["status", "log", "check", "map", "diff"] {
        let mut found = Vec::new();

        fields(&json(&image.run(&[command, "--json"]), 0), &mut found);
        assert!(!found.is_empty());
        for field in found {
            // Log blocks and summaries are described there.
            let text = [help(command), blocks.clone()].concat();

            assert!(text.contains(&field), "{command}: {field}");
        }
    }
}
