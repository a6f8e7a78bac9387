// SPDX-License-Identifier: GPL-2.0

//! Files that have data in given sectors: ext2, ext3 and ext4, by `debugfs` of e2fsprogs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

use bow_decisions::check::block_sectors;
use bow_decisions::log::SECTOR_SIZE;
use serde::Serialize;

use crate::changes::read_now;
use crate::device::{BlockDevice, FileDevice};
use crate::live::Live;
use crate::recovery::Checked;
use crate::superblock::Superblock;

/// Largest number of blocks that are looked up. `debugfs` compares each with each block of each
/// file, and its arguments have to fit on a command line.
const BLOCKS_MAX: u64 = 8192;

/// The root folder's inode, and the first that is not for the file system itself.
const ROOT: u64 = 2;
const FIRST: u64 = 11;

/// Files that have been found.
#[derive(Debug)]
pub struct Lookup {
    /// The files, by their paths.
    pub files: Vec<File>,
    /// Set if all blocks were looked up.
    pub complete: bool,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct File {
    /// Its paths, from the root of the file system; none if it is in no folder.
    pub paths: Vec<String>,
    /// Its inode.
    pub inode: u64,
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.paths.is_empty() {
            return write!(f, "inode {}, in no folder", self.inode);
        }
        // A name may have anything in it, but a terminal is not to obey it.
        let shown: Vec<String> = self
            .paths
            .iter()
            .map(|path| {
                path.chars()
                    .flat_map(|character| match character.is_control() {
                        true => character.escape_default().collect::<Vec<_>>(),
                        false => vec![character],
                    })
                    .collect()
            })
            .collect();
        f.write_str(&shown.join(", "))
    }
}

/// Finds the files that have data in `spans`, which are sectors. Reads only.
///
/// # Errors
///
/// The reason why they cannot be known, as part of a sentence.
pub fn find(
    device: &FileDevice,
    log: &Checked,
    live: Option<&Live>,
    spans: &[Range<u64>],
) -> Result<Lookup, String> {
    let superblock = superblock(device, log)
        .ok_or("since only those of ext2, ext3 and ext4 can be looked up")?;
    let block = superblock.block_bytes() / SECTOR_SIZE as u64;
    let (blocks, complete) = sample(spans, block);
    let hidden =
        live.is_none() && block_sectors(&log.header) > (Superblock::OFFSET / SECTOR_SIZE) as u64;
    // Neither bitmaps nor checksums: on a mounted file system they may be on their way, and a copy
    // of the superblock does not know the current ones.
    let mut options = vec!["-c".to_owned(), "-n".to_owned()];

    if hidden {
        // The log is where the superblock belongs, but there are copies.
        let copy = superblock.copy().ok_or(
            "since the log hides the superblock, of which so small a file system has no copy",
        )?;

        options.extend(
            [
                "-b",
                &superblock.block_bytes().to_string(),
                "-s",
                &copy.to_string(),
            ]
            .map(str::to_owned),
        );
    }
    let node = live.map(|live| Path::new("/dev").join(&live.node));
    let node = node.as_deref().unwrap_or(device.path());
    let ask = |command: &str, numbers: Vec<u64>| {
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();

        debugfs(node, &options, &format!("{command} {}", numbers.join(" ")))
    };

    if blocks.is_empty() {
        return Ok(Lookup {
            files: Vec::new(),
            complete,
        });
    }
    let inodes: BTreeSet<u64> = inodes(&ask("icheck", blocks)?)
        .filter(|inode| *inode == ROOT || *inode >= FIRST)
        .collect();
    let mut paths = BTreeMap::new();
    if !inodes.is_empty() {
        paths = self::paths(&ask("ncheck", inodes.iter().copied().collect())?);
    }
    let mut files: Vec<_> = inodes
        .into_iter()
        .map(|inode| File {
            paths: match inode {
                ROOT => vec!["/".to_owned()],
                _ => paths.remove(&inode).unwrap_or_default(),
            },
            inode,
        })
        .collect();

    files.sort();
    Ok(Lookup { files, complete })
}

/// Reads the superblock as it is now.
fn superblock(device: &FileDevice, log: &Checked) -> Option<Superblock> {
    let mut start = [0; Superblock::OFFSET + Superblock::LEN];

    if device.sectors() < (start.len() / SECTOR_SIZE) as u64 {
        return None;
    }
    for (sector, data) in (0..).zip(start.chunks_mut(SECTOR_SIZE)) {
        read_now(device, &log.header, sector, data).ok()?;
    }
    Superblock::parse(&start)
}

/// Returns the blocks, of `block` sectors, that `spans` touch, and whether these are all. If there
/// are too many, they are taken at equal distances.
fn sample(spans: &[Range<u64>], block: u64) -> (Vec<u64>, bool) {
    let spans: Vec<_> = spans
        .iter()
        .map(|span| span.start / block..span.end.div_ceil(block))
        .collect();
    let total: u64 = spans.iter().map(|span| span.end - span.start).sum();
    let step = total.div_ceil(BLOCKS_MAX).max(1);
    let mut blocks = Vec::new();
    let mut skip = 0;

    for span in spans {
        let mut position = span.start + skip;

        while position < span.end {
            blocks.push(position);
            position += step;
        }
        skip = position - span.end;
    }
    blocks.sort_unstable();
    blocks.dedup();
    (blocks, step == 1)
}

/// Runs one command of `debugfs`, which opens the file system read-only.
fn debugfs(node: &Path, options: &[String], command: &str) -> Result<String, String> {
    let output = Command::new("debugfs")
        .args(options)
        .args(["-R", command])
        .arg(node)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => "since there is no debugfs (package e2fsprogs)".to_owned(),
            _ => format!("since debugfs cannot be run: {error}"),
        })?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // It says its version first, and ends with 0 even if it could not open the device.
    let error = errors.lines().find(|line| !line.starts_with("debugfs 1."));

    match error {
        Some(error) if output.stdout.is_empty() || !output.status.success() => {
            Err(format!("since debugfs says: {error}"))
        }
        _ => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
    }
}

/// Reads the inodes from the output of `icheck`: a block and an inode a line.
fn inodes(output: &str) -> impl Iterator<Item = u64> + '_ {
    output
        .lines()
        .filter_map(|line| line.split_once('\t')?.1.parse().ok())
}

/// Reads the paths of inodes from the output of `ncheck`: an inode and a path a line.
fn paths(output: &str) -> BTreeMap<u64, Vec<String>> {
    let mut paths: BTreeMap<u64, Vec<String>> = BTreeMap::new();

    for line in output.lines() {
        let Some((inode, path)) = line.split_once('\t') else {
            continue;
        };
        if let Ok(inode) = inode.parse() {
            let path = format!("/{}", path.trim_start_matches('/'));

            paths.entry(inode).or_default().push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_debugfs() {
        let found = "Block\tInode number\n77\t12\n78\t<block not found>\n79\t2\n";
        assert_eq!(inodes(found).collect::<Vec<_>>(), [12, 2]);

        let found = "Inode\tPathname\n12\t//a b\n13\t/dir/x\n13\t/dir/y\n";
        let paths = paths(found);
        assert_eq!(paths[&12], ["/a b"]);
        assert_eq!(paths[&13], ["/dir/x", "/dir/y"]);
    }

    #[test]
    fn few_blocks_are_all_taken_and_many_are_not() {
        assert_eq!(sample(&[0..8, 12..20, 20..21], 8), (vec![0, 1, 2], true));
        assert_eq!(sample(&[], 8), (vec![], true));

        let many = [0..8 * 30_000, 8 * 50_000..8 * 60_000];
        let (blocks, complete) = sample(&many, 8);
        assert!(!complete && blocks.len() as u64 <= BLOCKS_MAX && blocks.len() > 7000);
        assert!(blocks
            .iter()
            .all(|block| *block < 30_000 || (50_000..60_000).contains(block)));
        assert!(blocks.iter().any(|block| *block > 50_000));
    }

    #[test]
    fn a_name_does_not_reach_the_terminal_unescaped() {
        let file = File {
            paths: vec!["/\u{1b}[31mred".to_owned(), "/ä".to_owned()],
            inode: 12,
        };

        assert_eq!(file.to_string(), "/\\u{1b}[31mred, /ä");
    }
}
