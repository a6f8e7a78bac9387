// SPDX-License-Identifier: GPL-2.0

//! One state that a power cut leaves, and all that is asked of it. A [`Seed`] says which.

use crate::contents::Id;
use crate::cut;
use crate::device::Device;
use crate::ext4;
use crate::fsck;
use crate::go_on::{self, GoneOn};
use crate::promises::{self, Found};
use crate::recording::Recording;
use crate::trace::Time;
use bow_random::Random;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Name of a state: when power fails, and what draws the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seed {
    /// The number of events that happened.
    pub(crate) cut: Time,
    pub(crate) random: u32,
    /// Recovery that is cut off in its turn.
    pub(crate) second: Option<Second>,
}

/// A restore or a commit that is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) repair: Repair,
    /// The number of requests (writes and flushes) that reached the device.
    pub(crate) requests: u32,
    pub(crate) random: u32,
}

/// Way to put a device right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repair {
    Restore,
    Commit,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.cut, self.random)?;
        if let Some(second) = self.second {
            let repair = match second.repair {
                Repair::Restore => 'r',
                Repair::Commit => 'c',
            };
            write!(f, "-{repair}{:x}-{:x}", second.requests, second.random)?;
        }
        Ok(())
    }
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| {
            u32::from_str_radix(word, 16).map_err(|error| format!("seed {text}: {error}"))
        };
        let words: Vec<_> = text.split('-').collect();
        let (cut, random, second) = match words[..] {
            [cut, random] => (cut, random, None),
            [cut, random, requests, again] => (cut, random, Some((requests, again))),
            _ => return Err(format!("seed {text}: not of this program")),
        };
        let second = match second {
            None => None,
            Some((requests, random)) => {
                let (repair, requests) = match requests.split_at_checked(1) {
                    Some(("r", requests)) => (Repair::Restore, requests),
                    Some(("c", requests)) => (Repair::Commit, requests),
                    _ => return Err(format!("seed {text}: neither r nor c")),
                };
                Some(Second {
                    repair,
                    requests: number(requests)?,
                    random: number(random)?,
                })
            }
        };
        Ok(Self {
            cut: number(cut)?,
            random: number(random)?,
            second,
        })
    }
}

/// Result of a state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// There was a log: both ways were tried.
    pub(crate) has_log: bool,
    /// Requests of the restore.
    pub(crate) restore: u32,
    /// Requests of the commit.
    pub(crate) commit: u32,
    /// Writes that arrived in part.
    pub(crate) torn: usize,
    /// Files that were read.
    pub(crate) files: usize,
    /// File systems that e2fsck found clean.
    pub(crate) clean: usize,
    /// Resumes, and what was written after them.
    pub(crate) gone_on: GoneOn,
}

/// Checks of a state beyond the promises that are always checked.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extra<'a> {
    /// Read the files that must be there.
    pub(crate) files: bool,
    /// Resume the checkpoint and go on.
    pub(crate) resume: bool,
    /// Have e2fsck check the file system, as a file in this folder.
    pub(crate) fsck: Option<&'a Path>,
    /// Tell what is drawn.
    pub(crate) tell: bool,
}

/// Builds the state and checks it.
pub(crate) fn run(recording: &Recording, seed: Seed, extra: Extra<'_>) -> Result<Outcome, String> {
    let drawn = draw(recording, seed);
    let told = |error: String| format!("{error}\n    {}", drawn.words);
    if extra.tell {
        println!("power fails after {} events; {}", seed.cut, drawn.words);
    }
    let device = Device::new(&recording.contents, drawn.sectors.clone());
    let found = promises::find(&device);
    promises::allowed(recording, seed.cut, found).map_err(told)?;
    if extra.tell {
        println!("found: {found:?}");
    }
    if let Some(second) = seed.second {
        return cut_off(recording, seed.cut, &device, second, extra).map_err(told);
    }

    let mut outcome = Outcome {
        has_log: found == Found::Log,
        torn: drawn.torn,
        ..Outcome::default()
    };
    let mut kept = device.clone();
    if found == Found::Log && extra.resume {
        let mut random = Random::new((u64::from(seed.random) << 32) | u64::from(seed.cut));
        outcome.gone_on = go_on::go_on(recording, &mut device.clone(), seed.cut, &mut random)
            .map_err(|error| told(format!("going on: {error}")))?;
    }
    if found == Found::Log {
        let mut restored = device;
        promises::restore(recording, &mut restored, seed.cut)
            .and_then(|()| promises::rolled_back(recording, &restored.sectors, seed.cut))
            .and_then(|()| look_inside(recording, &restored, None, extra, &mut outcome))
            .map_err(|error| told(format!("rollback: {error}")))?;
        promises::keep(&mut kept).map_err(told)?;
        outcome.restore = restored.requests.len() as u32;
        outcome.commit = kept.requests.len() as u32;
    }
    promises::as_bare(recording, &kept.sectors, seed.cut)
        .and_then(|()| look_inside(recording, &kept, Some(seed.cut), extra, &mut outcome))
        .map_err(|error| told(format!("roll-forward: {error}")))?;
    Ok(outcome)
}

fn draw(recording: &Recording, seed: Seed) -> cut::Drawn {
    let mut random = Random::new((u64::from(seed.cut) << 32) | u64::from(seed.random));
    cut::draw(&recording.lower, recording.sectors, seed.cut, &mut random)
}

/// Checks the file system, if there is one that can be read here, of a device that was kept forward
/// after a cut, or else rolled back.
fn look_inside(
    recording: &Recording,
    device: &Device<'_>,
    cut: Option<Time>,
    extra: Extra<'_>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let Some(files) = recording
        .files
        .as_ref()
        .filter(|_| extra.files || extra.fsck.is_some())
        .filter(|_| is_readable(recording, device, cut) && recording.fs == "ext4")
    else {
        return Ok(());
    };
    let image = device.image();
    if let Some(dir) = extra.fsck {
        fsck::check(&image, dir)?;
        outcome.clean += 1;
    }
    if extra.files {
        let until = cut.unwrap_or(recording.taken.start);
        outcome.files += ext4::read(image, |read| files.check(until, read))?;
    }
    Ok(())
}

/// Returns whether a file system is to be expected on a device that was kept forward after a cut,
/// or else rolled back.
fn is_readable(recording: &Recording, device: &Device<'_>, cut: Option<Time>) -> bool {
    let torn = cut.is_some_and(|cut| ext4::superblock_is_torn(recording, device, cut));
    recording.fs != "ext4" || !torn
}

/// Returns the device that a state is put right to, for checks by other programs; none if it holds
/// no log that could be restored, or ext4 cannot be there.
pub(crate) fn repaired(
    recording: &Recording,
    seed: Seed,
    repair: Repair,
) -> Result<Option<Device<'_>>, String> {
    let mut device = Device::new(&recording.contents, draw(recording, seed).sectors);
    let found = promises::find(&device);
    let cut = match (repair, found) {
        (Repair::Restore, Found::Log) => {
            promises::restore(recording, &mut device, seed.cut)?;
            None
        }
        (Repair::Restore, _) => return Ok(None),
        (Repair::Commit, Found::Log) => {
            promises::keep(&mut device)?;
            Some(seed.cut)
        }
        (Repair::Commit, _) => Some(seed.cut),
    };
    Ok(Some(device).filter(|device| is_readable(recording, device, cut)))
}

/// Cuts off a restore or a commit of `device`, and begins again: the old state must still come
/// back, and as long as no restore has begun, so must the new.
fn cut_off(
    recording: &Recording,
    cut: Time,
    device: &Device<'_>,
    second: Second,
    extra: Extra<'_>,
) -> Result<Outcome, String> {
    let mut whole = device.clone();
    match second.repair {
        Repair::Restore => promises::restore(recording, &mut whole, cut)?,
        Repair::Commit => promises::keep(&mut whole)?,
    }
    let reached = whole
        .requests
        .get(..second.requests as usize)
        .ok_or("there are not that many requests")?;
    let mut random = Random::new((u64::from(second.requests) << 32) | u64::from(second.random));
    let drawn = cut::draw_requests(&device.sectors, reached, &mut random);
    if extra.tell {
        println!("{:?} cut off: {}", second.repair, drawn.words);
    }
    let left = whole.with(drawn.sectors);
    begin_again(recording, cut, left, second.repair, &mut random).map_err(|error| {
        format!(
            "cut off after {} requests ({}): {error}",
            second.requests, drawn.words
        )
    })?;
    Ok(Outcome {
        torn: drawn.torn,
        ..Outcome::default()
    })
}

/// Checks that what a repair that was cut off has left comes to the same end.
fn begin_again(
    recording: &Recording,
    cut: Time,
    left: Device<'_>,
    repair: Repair,
    random: &mut Random,
) -> Result<(), String> {
    let found = promises::find(&left);
    let end = |sectors: &[Id]| match repair {
        Repair::Restore => promises::rolled_back(recording, sectors, cut),
        Repair::Commit => promises::as_bare(recording, sectors, cut),
    };
    if found == Found::Plain {
        return end(&left.sectors);
    }

    let mut restored = left.clone();
    promises::restore(recording, &mut restored, cut)
        .and_then(|()| promises::rolled_back(recording, &restored.sectors, cut))
        .map_err(|error| format!("rollback again: {error}"))?;
    let mut kept = left.clone();
    if found == Found::Restoring {
        promises::refuses_to_keep(&mut kept)?;
    } else {
        promises::keep(&mut kept)
            .and_then(|()| promises::as_bare(recording, &kept.sectors, cut))
            .map_err(|error| format!("roll-forward again: {error}"))?;
    }

    // Once more, now and then.
    if random.chance(1, 4) && !restored.requests.is_empty() {
        let count = random.index(restored.requests.len()) + 1;
        let drawn = cut::draw_requests(&left.sectors, &restored.requests[..count], random);
        let mut third = restored.with(drawn.sectors);
        if promises::find(&third) != Found::Plain {
            promises::restore(recording, &mut third, cut)
                .map_err(|error| format!("cut off once more after {count}: {error}"))?;
        }
        promises::rolled_back(recording, &third.sectors, cut)
            .map_err(|error| format!("cut off once more after {count}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read_as_they_are_printed() {
        for text in ["0-1", "12ab-ffffffff", "3-4-r5-6", "3-4-c10-0"] {
            let seed: Seed = text.parse().unwrap();
            assert_eq!(seed.to_string(), text);
        }
        for text in ["", "1", "1-g", "1-2-3-4", "1-2-r3"] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
    }
}
