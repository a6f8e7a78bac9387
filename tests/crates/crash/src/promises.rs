// SPDX-License-Identifier: GPL-2.0

//! The promises for a device that a power cut has left.

use crate::contents::{Id, SECTOR};
use crate::device::Device;
use crate::recording::Recording;
use crate::trace::Time;
use bow_decisions::log;
use bowctl::progress::Progress;
use bowctl::recovery::foreign;
use bowctl::recovery::{self, CheckOptions, RecoveryError};

/// Wrong sectors that are told one by one.
const SHOWN: usize = 6;

/// In which state the device is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// There is no log.
    Plain,
    /// There is a log: a rollback is possible, or to keep the new state.
    Log,
    /// A restore has begun.
    Restoring,
}

pub(crate) fn find(device: &Device<'_>) -> Found {
    match log::probe(device.sector(0)) {
        None => Found::Plain,
        Some(probe) if probe.restoring => Found::Restoring,
        Some(_) => Found::Log,
    }
}

/// Returns whether the device may be in this state when power fails after the first `cut` events.
pub(crate) fn allowed(recording: &Recording, cut: Time, found: Found) -> Result<(), String> {
    let taken = recording.taken;
    let is_over = recording
        .given_up
        .is_some_and(|decision| cut > decision.start);
    match found {
        Found::Plain if cut > taken.reported.min(taken.durable) && !is_over => {
            Err("the checkpoint was taken, but there is no log".into())
        }
        Found::Log if cut <= taken.start => {
            Err("there is a log, but no checkpoint was taken".into())
        }
        Found::Log => match recording.given_up {
            Some(decision) if cut > decision.reported.min(decision.durable) => {
                Err("the checkpoint was committed, but there is a log".into())
            }
            _ => Ok(()),
        },
        Found::Restoring => Err("nobody has begun a restore".into()),
        Found::Plain => Ok(()),
    }
}

/// Checks the log and restores the device, which power failed on after the first `cut` events.
///
/// Traces of a foreign write are no fault if the write that takes the checkpoint was torn over a first block that
/// a discard had left undefined.
pub(crate) fn restore(
    recording: &Recording,
    device: &mut Device<'_>,
    cut: Time,
) -> Result<(), String> {
    let mut progress = Progress::hidden();
    let log = recovery::check(device, CheckOptions::default(), &mut progress, |_| ())
        .map_err(|error| format!("bowctl refuses the log: {error}"))?;
    let traces = foreign::traces(device, &log).map_err(|error| format!("traces: {error}"))?;
    let first_block = log.header.block_size as usize / SECTOR;
    let is_undefined = recording.is_kept.iter().take(first_block).any(|kept| !kept);
    let is_excused = is_undefined && cut <= recording.taken.durable;
    if !traces.is_empty() && !is_excused {
        return Err(format!("nobody else has written: {}", traces.join("; ")));
    }
    if !device.requests.is_empty() {
        return Err("the check of the log has written".into());
    }
    recovery::restore(device, &log, &mut progress).map_err(|error| format!("restore: {error}"))
}

/// Keeps the new state of the device.
pub(crate) fn keep(device: &mut Device<'_>) -> Result<(), String> {
    recovery::commit(device).map_err(|error| format!("commit: {error}"))
}

/// Checks that the new state of a device cannot be kept once a restore has begun.
pub(crate) fn refuses_to_keep(device: &mut Device<'_>) -> Result<(), String> {
    match recovery::commit(device) {
        Err(RecoveryError::Restoring) if device.requests.is_empty() => Ok(()),
        Err(RecoveryError::Restoring) => Err("a refused commit has written".into()),
        Err(error) => Err(format!("commit in mid-restore: {error}")),
        Ok(()) => Err("a commit in mid-restore is not refused".into()),
    }
}

/// Checks that every sector that was not free at the checkpoint is as it was then, and that nothing is left of
/// what was written to the others before `cut`.
pub(crate) fn rolled_back(recording: &Recording, sectors: &[Id], cut: Time) -> Result<(), String> {
    let wrong = sectors
        .iter()
        .zip(&recording.image)
        .zip(&recording.is_kept)
        .enumerate()
        .filter(|(_, ((now, then), kept))| **kept && now != then)
        .map(|(sector, _)| sector);
    none(wrong, "differ from the checkpoint")?;
    let left = sectors
        .iter()
        .enumerate()
        .filter(|(sector, id)| !recording.is_kept[*sector] && !recording.is_old(**id))
        .filter(|(sector, id)| recording.is_written(*sector, **id, cut))
        .map(|(sector, _)| sector);
    none(left, "hold what was undone")
}

/// Checks that every sector holds what a bare device might hold after the same cut.
pub(crate) fn as_bare(recording: &Recording, sectors: &[Id], cut: Time) -> Result<(), String> {
    let wrong = sectors
        .iter()
        .enumerate()
        .filter(|(sector, id)| !recording.upper.allows(*sector as u32, **id, cut))
        .map(|(sector, _)| sector);
    none(wrong, "are not what a bare device would hold")
}

fn none(mut wrong: impl Iterator<Item = usize>, what: &str) -> Result<(), String> {
    let shown: Vec<_> = wrong.by_ref().take(SHOWN).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let count = shown.len() + wrong.count();
    Err(format!("{count} sectors {what}: {shown:?}"))
}
