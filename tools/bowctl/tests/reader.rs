// SPDX-License-Identifier: GPL-2.0

//! `bowctl` and the independent reader of `tests/reader`, on the same images.

use std::fs;
use std::path::Path;
use std::process::Command;

use bow_model::history::{History, Op};
use bow_model::log::Version;
use bow_random::Random;
use serde_json::Value;

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();

    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

#[test]
fn both_readers_agree() {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/reader/bow_reader.py");
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let mut random = Random::new(11);

    for round in 0..12 {
        let version = Version::ALL[round % 3];
        let block_size = 512 << (round / 3);
        let free: Vec<_> = (0..150).map(|_| !random.once_in(3)).collect();
        // Half of the devices end in the middle of a block.
        let tail = match round / 3 % 2 {
            0 => 0,
            _ => 1 + random.index(block_size / 512 - 1),
        };
        let mut history =
            History::with_tail(version, block_size, &free, tail, random.bits()).unwrap();
        let end = Op::Write {
            block: history.blocks() - 2,
            blocks: 2,
        };
        let writes = (0..40).map(|_| Op::Write {
            block: random.index(150),
            blocks: 1 + random.index(4),
        });
        let ops: Vec<_> = std::iter::once(end).chain(writes).collect();
        history.run(&ops);

        let restored = |command: &mut Command| {
            fs::write(&image, &history.disk).unwrap();
            run(command.arg(&image));
            fs::read(&image).unwrap()
        };
        let bowctl = || Command::new(env!("CARGO_BIN_EXE_bowctl"));
        let python = || {
            let mut command = Command::new("python3");
            command.arg(&reader);
            command
        };
        let ours = restored(bowctl().args(["restore", "--quiet"]));
        let theirs = restored(python().arg("restore"));
        history.assert_rolled_back(&ours, "bowctl");
        history.assert_rolled_back(&theirs, "bow_reader.py");
        assert!(
            ours == theirs,
            "they leave different contents in free space"
        );
        let ours = restored(bowctl().arg("commit"));
        let theirs = restored(python().args(["restore", "--keep"]));
        history.assert(&ours, history.kept(), "bowctl");
        history.assert(&theirs, history.kept(), "bow_reader.py");

        fs::write(&image, &history.disk).unwrap();
        run(python().arg("verify").arg(&image));
        let log: Value =
            serde_json::from_slice(&run(bowctl().args(["log", "--json"]).arg(&image))).unwrap();
        assert_eq!(log["summary"]["entries"], history.total_entries);
    }
}
