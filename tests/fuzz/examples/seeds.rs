// SPDX-License-Identifier: GPL-2.0

//! Writes what the corpora began with to a folder: logs and devices of all versions as a target
//! leaves them, made by the model; and table lines.

use std::fs;
use std::path::{Path, PathBuf};

use bow_model::history::{History, Op};
use bow_model::log::Version;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or("corpus".into()));
    let put = |target: &str, name: &str, data: &[u8]| {
        let path = folder.join(target);

        fs::create_dir_all(&path)?;
        fs::write(path.join(name), data)
    };

    for (version, name) in [
        (Version::V1_0, "1.0"),
        (Version::V1_1, "1.1"),
        (Version::V1_2, "1.2"),
    ] {
        for (block_size, blocks, writes) in [(512, 24, 8), (1024, 12, 4), (4096, 40, 30)] {
            let free: Vec<_> = (0..blocks).map(|block| block % 3 > 0).collect();
            let mut history = History::new(version, block_size, &free, 7).unwrap();
            let ops: Vec<_> = (0..writes)
                .map(|i| Op::Write {
                    block: i * 5 % blocks,
                    blocks: 1 + i % 2,
                })
                .collect();
            history.run(&ops);

            let name = format!("{name}-{block_size}");
            let log = &history.disk[..block_size];
            put("log", &name, log)?;
            // Without its checksum made right, and no larger than it is.
            let mut device = vec![0];
            device.extend(&history.disk);
            if device.len() < 16 << 10 {
                put("raw", &name, &device)?;
            }
            // The log alone, its checksum made right, on a device of 40 sectors more.
            put("raw", &format!("{name}-alone"), &[&[81], log].concat())?;
        }
    }
    for (index, line) in [
        "0",
        "1 block_size:512",
        "1 on_full:error",
        "2 block_size:1024 on_full:commit",
        "2 on_full:commit block_size:4096",
        "2 block_size:2048 block_size:02048",
    ]
    .iter()
    .enumerate()
    {
        let line = format!("\0\u{1}\0\0{line}");

        put("table", &index.to_string(), line.as_bytes())?;
    }
    report(&folder)
}

fn report(folder: &Path) -> std::io::Result<()> {
    for target in fs::read_dir(folder)? {
        println!("{}", target?.path().display());
    }
    Ok(())
}
