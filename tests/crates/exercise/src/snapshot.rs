// SPDX-License-Identifier: GPL-2.0

//! The image of a device at the checkpoint, less what was free then.
//!
//! The free sectors are taken from a trace of what the file system sent to
//! the device (the kernel's `block:block_bio_queue` event), not from bow: a
//! discard frees its sectors, any write after it takes them back.
//!
//! On disk: the image as a sparse file, and beside it `IMAGE.free`, the free
//! ranges as JSON.

use crate::device::Buffer;
use crate::device::Device;
use crate::range::Range;
use crate::range::SECTOR;
use crate::Failure;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

/// Sectors read at once.
const STEP: u64 = 2048;

/// Wrong sectors that are printed one by one.
const SHOWN: u64 = 10;

fn free_path(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".free");
    name.into()
}

fn wrong(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

/// Returns one flag a sector: true where the trace leaves it free.
fn free_sectors(trace: &str, device: &str, sectors: u64) -> Result<Vec<bool>, Failure> {
    let mut free = vec![false; sectors as usize];
    for line in trace.lines() {
        let Some((_, event)) = line.split_once("block_bio_queue: ") else {
            continue;
        };
        // "253,0 DS 2048 + 8192 [fstrim]"
        let words: Vec<_> = event.split_whitespace().collect();
        let [dev, flags, start, "+", len, ..] = words[..] else {
            return Err(Failure::usage(format!("unreadable trace line: {line}")));
        };
        if dev != device {
            continue;
        }
        let (Ok(start), Ok(len)) = (start.parse::<u64>(), len.parse::<u64>()) else {
            return Err(Failure::usage(format!("unreadable trace line: {line}")));
        };
        let Some(range) = start.checked_add(len).filter(|&end| end <= sectors) else {
            return Err(Failure::usage(format!(
                "past the end of the device: {line}"
            )));
        };
        // A preflush stands before the operation: "FWFS". Reads change nothing,
        // and whatever is not known to be harmless counts as a write.
        match flags.trim_start_matches('F').chars().next() {
            Some('R') | None => {}
            Some('D') => free[start as usize..range as usize].fill(true),
            Some(_) => free[start as usize..range as usize].fill(false),
        }
    }
    Ok(free)
}

fn ranges(free: &[bool]) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    for (sector, _) in (0..).zip(free).filter(|(_, &free)| free) {
        match ranges.last_mut() {
            Some(last) if last.end() == sector => last.len += 1,
            _ => ranges.push(Range::new(sector, 1)),
        }
    }
    ranges
}

/// Saves all sectors of `device` that the trace does not leave free.
pub(crate) fn take(
    device: &Device,
    trace: &Path,
    numbers: &str,
    image: &Path,
) -> Result<String, Failure> {
    let text = fs::read(trace).map_err(|e| wrong(trace, &e))?;
    let text = String::from_utf8_lossy(&text);
    let extent = device.extent();
    let free = free_sectors(&text, numbers, extent.len)?;
    let free_ranges = ranges(&free);
    let free_count: u64 = free_ranges.iter().map(|r| r.len).sum();

    let file = fs::File::create(image).map_err(|e| wrong(image, &e))?;
    file.set_len(extent.bytes()).map_err(|e| wrong(image, &e))?;
    for_each_known(device, &free, |sector, content| {
        // Zeroes stay a hole.
        if content.iter().any(|&b| b != 0) {
            file.write_all_at(content, sector * SECTOR as u64)
                .map_err(|e| wrong(image, &e))?;
        }
        Ok(())
    })?;
    let json = serde_json::to_vec(&free_ranges).expect("ranges are plain data");
    let path = free_path(image);
    fs::write(&path, json).map_err(|e| wrong(&path, &e))?;
    Ok(format!(
        "{} sectors saved, {free_count} free in {} ranges",
        extent.len - free_count,
        free_ranges.len()
    ))
}

/// Compares `device` with a snapshot, in all sectors that were not free.
pub(crate) fn compare(device: &Device, image: &Path) -> Result<String, Failure> {
    let path = free_path(image);
    let json = fs::read(&path).map_err(|e| wrong(&path, &e))?;
    let free_ranges: Vec<Range> = serde_json::from_slice(&json).map_err(|e| wrong(&path, &e))?;
    let file = fs::File::open(image).map_err(|e| wrong(image, &e))?;
    let sectors = file.metadata().map_err(|e| wrong(image, &e))?.len() / SECTOR as u64;
    if sectors != device.extent().len {
        return Err(Failure::content(format!(
            "the device has {} sectors, the snapshot {sectors}",
            device.extent().len
        )));
    }
    let mut free = vec![false; sectors as usize];
    for range in &free_ranges {
        free.get_mut(range.start as usize..range.end() as usize)
            .ok_or_else(|| wrong(&path, &"a range past the end"))?
            .fill(true);
    }
    let (mut compared, mut bad) = (0u64, 0u64);
    let mut saved = [0; SECTOR];
    for_each_known(device, &free, |sector, content| {
        file.read_exact_at(&mut saved, sector * SECTOR as u64)
            .map_err(|e| wrong(image, &e))?;
        compared += 1;
        if content != saved {
            bad += 1;
            if bad <= SHOWN {
                println!("sector {sector} differs from the snapshot");
            }
        }
        Ok(())
    })?;
    if compared == 0 {
        return Err(Failure::content("nothing to compare: all was free".into()));
    }
    if bad > 0 {
        return Err(Failure::content(format!(
            "{bad} of {compared} sectors differ"
        )));
    }
    Ok(format!("{compared} sectors as in the snapshot"))
}

fn for_each_known(
    device: &Device,
    free: &[bool],
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut buffer = Buffer::new(STEP, 0);
    for piece in device.extent().pieces(STEP) {
        let slots = &free[piece.start as usize..piece.end() as usize];
        if slots.iter().all(|&free| free) {
            continue;
        }
        device
            .read(piece, &mut buffer)
            .map_err(|e| Failure::io(e, format!("read {piece}: {e}")))?;
        let contents = buffer.slice(piece).chunks_exact(SECTOR);
        for ((sector, &free), content) in (piece.start..).zip(slots).zip(contents) {
            if !free {
                visit(sector, content)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_followed_in_order() {
        let trace = "\
# tracer: nop
 fstrim-1 [000] ..... 1.0: block_bio_queue: 253,0 DS 8 + 16 [fstrim]
 jbd2/dm-0-8-2 [000] ..... 1.1: block_bio_queue: 253,0 FWFS 10 + 2 [jbd2/dm-0-8]
 cat-3 [000] ..... 1.2: block_bio_queue: 253,0 RA 8 + 16 [cat]
 cat-3 [000] ..... 1.2: block_bio_queue: 7,0 WS 8 + 16 [cat]
 sync-3 [000] ..... 1.2: block_bio_queue: 253,0 FF 0 + 0 [sync]
 fstrim-1 [000] ..... 1.3: block_bio_queue: 253,0 DS 11 + 1 [fstrim]
";
        let free = free_sectors(trace, "253,0", 32).unwrap();
        assert_eq!(ranges(&free), [Range::new(8, 2), Range::new(11, 13)]);
        assert!(free_sectors(trace, "253,0", 16).is_err());
    }
}
