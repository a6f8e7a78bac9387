// SPDX-License-Identifier: GPL-2.0

//! The files of a workload: what is done with them, and what must be there after a power cut.
//!
//! The load says in the trace what it is about to do ("begin") and what has been made durable
//! ("done"). Every line of a file says which file, which version and which line it is, so that a
//! reader can tell what it found.

use crate::trace::Time;
use bow_random::Random;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes of a line.
const LINE: usize = 64;

/// Way in which the versions of a file follow each other; the name says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Written anew and renamed over the old one: one version or another.
    Replaced,
    /// Written over in place, at the same length: each line may be of another version.
    Overwritten,
    /// A version has one line more for each version before it.
    Appended,
    /// Removed and made again.
    Removed,
}

fn way(name: &str) -> Way {
    match name.as_bytes().first() {
        Some(b'o') => Way::Overwritten,
        Some(b'a') => Way::Appended,
        Some(b'd') => Way::Removed,
        _ => Way::Replaced,
    }
}

/// Returns the lines of a version of a file.
fn lines(name: &str, version: u32) -> usize {
    let random = |seed: u32| {
        let seed = name.bytes().fold(u64::from(seed), |sum, byte| {
            sum.wrapping_mul(31) + u64::from(byte)
        });
        Random::new(seed).index(160) + 1
    };
    match way(name) {
        Way::Overwritten => random(0) + 40,
        Way::Appended => version as usize * 7,
        Way::Replaced | Way::Removed => random(version),
    }
}

fn line(name: &str, version: u32, number: usize) -> [u8; LINE] {
    let mut line = [b'.'; LINE];
    let text = format!("{name} {version} {number} ");
    let bytes = text.as_bytes();
    line[..bytes.len().min(LINE - 1)].copy_from_slice(&bytes[..bytes.len().min(LINE - 1)]);
    line[LINE - 1] = b'\n';
    line
}

/// Returns the whole of a version; an appended line keeps the version that it came with, which is 0
/// for all, as if it had no version.
fn content(name: &str, version: u32) -> Vec<u8> {
    let shown = if way(name) == Way::Appended {
        0
    } else {
        version
    };
    (0..lines(name, version))
        .flat_map(|number| line(name, shown, number))
        .collect()
}

/// Returns the version that a line of a file is of.
fn version_of(name: &str, number: usize, found: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(found).ok()?;
    let version = text
        .strip_prefix(name)?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    (line(name, version, number) == *found).then_some(version)
}

/// Knowledge of a file. Version 0 stands for a file that is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The newest version that was made durable.
    done: u32,
    /// True if by `done` the file was removed.
    is_gone: bool,
    /// The newest version that was begun.
    begun: u32,
    /// True if a removal was begun since `done`.
    goes: bool,
}

/// Fate of all files.
pub(crate) struct Files {
    /// Time, name, version (0 for a removal), and whether it is durable.
    steps: Vec<(Time, String, u32, bool)>,
}

impl Files {
    /// Reads the marks of a trace.
    pub(crate) fn new(marks: &[(Time, String)]) -> Self {
        let step = |(time, mark): &(Time, String)| {
            let words: Vec<_> = mark.split_whitespace().collect();
            let [kind @ ("begin" | "done"), name, version] = words[..] else {
                return None;
            };
            Some((
                *time,
                name.to_owned(),
                version.parse().ok()?,
                kind == "done",
            ))
        };
        Self {
            steps: marks.iter().filter_map(step).collect(),
        }
    }

    /// Returns the marks before the first `cut` events, one a line.
    pub(crate) fn until(&self, cut: Time) -> String {
        let mut lines = String::new();
        for (_, name, version, done) in self.steps.iter().take_while(|(time, ..)| *time < cut) {
            let kind = if *done { "done" } else { "begin" };
            lines += &format!("{kind} {name} {version}\n");
        }
        lines
    }

    fn known(&self, cut: Time) -> BTreeMap<&str, Known> {
        let mut files: BTreeMap<&str, Known> = BTreeMap::new();
        for (time, name, version, done) in &self.steps {
            if *time >= cut {
                break;
            }
            let known = files.entry(name).or_default();
            match (version, done) {
                (0, false) => known.goes = true,
                (0, true) => (known.is_gone, known.goes) = (true, false),
                (_, false) => known.begun = *version,
                (_, true) => {
                    known.done = *version;
                    (known.is_gone, known.goes) = (false, false);
                }
            }
        }
        files
    }

    /// Checks that what was made durable before the first `cut` events is there, as `read` finds
    /// it. Returns the number of files.
    pub(crate) fn check(
        &self,
        cut: Time,
        mut read: impl FnMut(&str) -> Result<Option<Vec<u8>>, String>,
    ) -> Result<usize, String> {
        let files = self.known(cut);
        for (name, known) in &files {
            let found = read(name)?;
            check_file(name, *known, found.as_deref())
                .map_err(|error| format!("file {name}: {error} ({known:?})"))?;
        }
        Ok(files.len())
    }
}

fn check_file(name: &str, known: Known, found: Option<&[u8]>) -> Result<(), String> {
    let Some(found) = found else {
        return match known {
            Known { done: 0, .. } => Ok(()),
            Known { is_gone: true, .. } | Known { goes: true, .. } => Ok(()),
            _ => Err("is not there".into()),
        };
    };
    if known.is_gone && known.begun <= known.done {
        return Err("was removed, and is there".into());
    }
    // While a file is written for the first time any part of it may be there, and what was not
    // written reads as zeroes.
    let is_being_made = known.done == 0 || known.is_gone;
    if is_being_made && way(name) != Way::Replaced {
        return Ok(());
    }
    let bounds = known.done..=known.begun.max(known.done);
    match way(name) {
        Way::Replaced | Way::Removed => {
            if bounds
                .clone()
                .any(|version| content(name, version) == found)
            {
                return Ok(());
            }
            Err(format!("is none of the versions {bounds:?}"))
        }
        Way::Appended => {
            let least = content(name, *bounds.start());
            let most = content(name, *bounds.end());
            if found.len() < least.len() || found.len() > most.len() {
                return Err(format!(
                    "has {} bytes, not {} to {}",
                    found.len(),
                    least.len(),
                    most.len()
                ));
            }
            match found.starts_with(&least) {
                true => Ok(()),
                false => Err("has other contents than were appended".into()),
            }
        }
        Way::Overwritten => {
            if found.len() != lines(name, 0) * LINE {
                return Err(format!("has {} bytes", found.len()));
            }
            let wrong = found.chunks(LINE).enumerate().find(|(number, line)| {
                !version_of(name, *number, line).is_some_and(|version| bounds.contains(&version))
            });
            match wrong {
                Some((number, _)) => Err(format!("line {number} is none of {bounds:?}")),
                None => Ok(()),
            }
        }
    }
}

/// The load: changes files in every way in which an update does, each step made durable.
pub(crate) struct Load {
    dir: PathBuf,
    folder: File,
    marker: File,
    versions: BTreeMap<String, u32>,
}

impl Load {
    /// Returns a load on the files of `dir`; `state` remembers their versions from one run to the
    /// next.
    pub(crate) fn new(dir: &Path, state: &Path) -> io::Result<Self> {
        let versions = fs::read_to_string(state).unwrap_or_default();
        Ok(Self {
            dir: dir.to_owned(),
            folder: File::open(dir)?,
            marker: OpenOptions::new()
                .write(true)
                .open("/sys/kernel/tracing/trace_marker")?,
            versions: versions
                .lines()
                .filter_map(|line| line.split_once(' '))
                .filter_map(|(name, version)| Some((name.to_owned(), version.parse().ok()?)))
                .collect(),
        })
    }

    fn mark(&mut self, kind: &str, name: &str, version: u32) -> io::Result<()> {
        self.marker
            .write_all(format!("bow-crash: {kind} {name} {version}\n").as_bytes())
    }

    /// Makes `count` files durable, then changes `steps` of them at random.
    pub(crate) fn run(
        &mut self,
        count: usize,
        steps: usize,
        seed: u64,
        state: &Path,
    ) -> io::Result<()> {
        let mut random = Random::new(seed);
        let name = |n: usize| format!("{}{n}", ["r", "r", "o", "a", "d"][n % 5]);
        for n in 0..count {
            if !self.versions.contains_key(&name(n)) {
                self.change(&name(n))?;
            }
        }
        for _ in 0..steps {
            self.change(&name(random.index(count)))?;
        }
        let mut versions = String::new();
        for (name, version) in &self.versions {
            versions += &format!("{name} {version}\n");
        }
        fs::write(state, versions)
    }

    fn change(&mut self, name: &str) -> io::Result<()> {
        let path = self.dir.join(name);
        let version = self.versions.get(name).copied().unwrap_or(0) + 1;
        let new = content(name, version);
        if way(name) == Way::Removed && path.exists() {
            self.mark("begin", name, 0)?;
            fs::remove_file(&path)?;
            self.folder.sync_all()?;
            return self.mark("done", name, 0);
        }
        self.mark("begin", name, version)?;
        match way(name) {
            Way::Replaced => {
                let temporary = self.dir.join(format!("{name}.new"));
                let mut file = File::create(&temporary)?;
                file.write_all(&new)?;
                file.sync_all()?;
                fs::rename(&temporary, &path)?;
            }
            Way::Overwritten | Way::Appended | Way::Removed => {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(&path)?;
                let old = match way(name) {
                    Way::Appended => file.metadata()?.len(),
                    _ => 0,
                };
                file.write_all_at(&new[old as usize..], old)?;
                file.sync_all()?;
            }
        }
        self.folder.sync_all()?;
        self.versions.insert(name.to_owned(), version);
        self.mark("done", name, version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(steps: &[(&str, &str, u32)]) -> Files {
        let marks: Vec<_> = (1..)
            .zip(steps)
            .map(|(time, (kind, name, version))| (time, format!("{kind} {name} {version}")))
            .collect();
        Files::new(&marks)
    }

    #[test]
    fn what_was_durable_must_be_there() {
        let files = files(&[
            ("begin", "r0", 1),
            ("done", "r0", 1),
            ("begin", "r0", 2),
            ("done", "r0", 2),
        ]);
        let holds = |cut, found: Option<u32>| {
            let found = found.map(|version| content("r0", version));
            files.check(cut, |_| Ok(found.clone())).is_ok()
        };
        assert!(holds(2, None) && holds(2, Some(1)));
        assert!(holds(3, Some(1)) && !holds(3, None) && !holds(3, Some(2)));
        assert!(holds(4, Some(1)) && holds(4, Some(2)));
        assert!(holds(5, Some(2)) && !holds(5, Some(1)));
    }

    #[test]
    fn other_ways_to_change_a_file() {
        let files = files(&[
            ("begin", "a3", 1),
            ("done", "a3", 1),
            ("begin", "a3", 2),
            ("begin", "d4", 1),
            ("done", "d4", 1),
            ("begin", "d4", 0),
            ("done", "d4", 0),
            ("begin", "o2", 1),
            ("done", "o2", 1),
            ("begin", "o2", 2),
        ]);
        let mixed = |name: &str| {
            let mut old = content(name, 1);
            let new = content(name, 2);
            old[LINE..2 * LINE].copy_from_slice(&new[LINE..2 * LINE]);
            old
        };
        let check = |a3: Vec<u8>, d4: Option<Vec<u8>>, o2: Vec<u8>| {
            files.check(20, |name| {
                Ok(match name {
                    "a3" => Some(a3.clone()),
                    "d4" => d4.clone(),
                    _ => Some(o2.clone()),
                })
            })
        };
        let a3 = content("a3", 1);
        assert_eq!(check(a3.clone(), None, mixed("o2")), Ok(3));
        assert!(check(content("a3", 2), None, mixed("o2")).is_ok());
        assert!(check(a3[..LINE].to_vec(), None, mixed("o2")).is_err());
        assert!(check(a3.clone(), Some(content("d4", 1)), mixed("o2")).is_err());
        assert!(check(a3, None, content("o2", 3)).is_err());
    }
}
