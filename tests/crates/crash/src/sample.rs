// SPDX-License-Identifier: GPL-2.0

//! File systems of some states, for a guest that mounts them.

use crate::case::{self, Repair};
use crate::contents::SECTOR;
use crate::files::Files;
use crate::fsck::write_sparse;
use crate::recording::Recording;
use crate::sweep;
use bow_random::Random;
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// States are drawn anew so often where one holds no file system.
const TRIES: usize = 20;

/// A device begins at a multiple of so many bytes of the disk.
const ALIGN: u64 = 1 << 20;

/// Puts `count` devices of `recording`, two out of three kept forward and the others rolled back,
/// onto `disk`, which is `used` bytes long so far, and says in `dir` what is where.
///
/// A line of `dir/list` is name, file system, first sector and length on the disk, `restore` or
/// `commit`, and seed; `dir/steps` has a file a line, by its number, with what became of the files.
pub(crate) fn sample(
    recording: &Recording,
    count: usize,
    random: &mut Random,
    disk: &File,
    used: &mut u64,
    list: &mut String,
    dir: &Path,
) -> Result<(), String> {
    let Some(files) = &recording.files else {
        return Ok(());
    };
    let moments = sweep::moments(recording);
    for number in 0..count {
        let repair = match number % 3 {
            2 => Repair::Restore,
            _ => Repair::Commit,
        };
        let mut found = None;
        for _ in 0..TRIES {
            let seed = moments.seed(random);
            found = case::repaired(recording, seed, repair)?.map(|device| (seed, device));
            if found.is_some() {
                break;
            }
        }
        let (seed, device) = found.ok_or("no state has a log")?;
        let (word, until) = match repair {
            Repair::Restore => ("restore", recording.taken.start),
            Repair::Commit => ("commit", seed.cut),
        };
        let image = device.image();
        let steps = dir.join("steps").join(list.lines().count().to_string());
        let write = || -> io::Result<()> {
            write_sparse(disk, *used, &image)?;
            fs::write(steps, files.until(until))
        };
        write().map_err(|error| error.to_string())?;
        *list += &format!(
            "{} {} {} {} {word} {seed}\n",
            recording.name,
            recording.fs,
            *used / SECTOR as u64,
            device.sectors.len(),
        );
        *used = (*used + image.len() as u64).next_multiple_of(ALIGN);
    }
    Ok(())
}

/// Checks that the files of folder `dir` are what the marks in file `steps` say.
pub(crate) fn check_files(dir: &Path, steps: &Path) -> Result<usize, String> {
    let steps = fs::read_to_string(steps).map_err(|error| error.to_string())?;
    let marks: Vec<_> = (0..).zip(steps.lines().map(str::to_owned)).collect();
    Files::new(&marks).check(u32::MAX, |name| match fs::read(dir.join(name)) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{name}: {error}")),
    })
}
