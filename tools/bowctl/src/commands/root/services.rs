// SPDX-License-Identifier: GPL-2.0

//! Commands that units, udev and the initramfs call.

use std::fs::File;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use bow_decisions::log::{probe, SECTOR_SIZE};
use bow_decisions::state::State;
use rustix::fs::{accessat, AtFlags};

use crate::commands::{print, tell};
use crate::device::{Access, BlockDevice, FileDevice};
use crate::error::{complain, Code, CommandError, Result};
use crate::live::Live;
use crate::root::config::{Config, LowSpace};
use crate::root::update::{self, FailedCheck, Failure, Outcome, Records};
use crate::root::{begin, grub, health, marks, next_boot, packages, reboot};
use crate::words::bytes;

/// Time between two warnings of an update that waits.
const DAY: Duration = Duration::from_secs(86400);

/// Runs the checks. What fails is recorded in the new state; a required one fails the boot.
///
/// A system that dpkg is in the middle of would fail, and be rebooted. The time for dpkg to end leaves enough of
/// `DEADLINE` to the checks.
pub(super) fn check_health() -> Result {
    const INTERVAL: Duration = Duration::from_secs(1);
    let config = Config::read();
    let on_trial = marks::is_try();
    let begun = Instant::now();

    while packages::is_dpkg_at_work() && begun.elapsed() < config.deadline / 3 {
        sleep(INTERVAL);
    }
    let checks = health::all(&health::FOLDERS.map(Path::new));
    let failed = health::run(&checks, config.check, |line| tell(&format!("{line}\n")));

    if on_trial && !marks::is_try() {
        return print("the trial has ended meanwhile: nothing depends on the checks\n");
    }
    if failed.is_empty() {
        print("all checks passed\n")?;
    } else {
        record(failed)?;
    }
    if on_trial {
        marks::set_healthy().map_err(|error| CommandError::io(marks::FOLDER, &error))?;
    }
    Ok(())
}

/// Records the checks that failed. That is an error if one of them is required.
fn record(failed: Vec<FailedCheck>) -> Result {
    let names = |required| -> Vec<&str> {
        failed
            .iter()
            .filter(|check| check.required == required)
            .map(|check| check.name.as_str())
            .collect()
    };
    let (required, wanted) = (names(true).join(", "), names(false).join(", "));
    let reason = if required.is_empty() {
        format!("wanted checks failed: {wanted}")
    } else {
        format!("required checks failed: {required}")
    };
    let is_good = required.is_empty();

    Records::default().add_failure(&Failure::now(reason.clone(), failed))?;
    if is_good {
        complain!("{reason}; the new state is kept all the same");
        return Ok(());
    }
    Err(CommandError::new(Code::RolledBack, reason))
}

/// Commits a boot on trial, after the checks.
pub(super) fn commit() -> Result {
    match begin::commit_trial(&begin::live()?)? {
        None => Ok(()),
        Some(next) => print(&format!(
            "not committed, since something else was decided in this boot; at the next boot: {next}\n"
        )),
    }
}

/// Watches the free space of the open checkpoint, until there is none. Warns once a day of an update that waits for its
/// reboot.
///
/// The target raises an event when less than `FREE_LOW` is left, when nothing is, and when the checkpoint ends. An
/// update may have left no `dmsetup` to wait for it: then the watch looks from time to time.
pub(super) fn watch() -> Result {
    const INTERVAL: Duration = Duration::from_secs(5);
    let config = Config::read();
    let Some(live) = crate::root::live() else {
        return Ok(());
    };

    // Ends with this process.
    thread::spawn(|| loop {
        sleep(DAY);
        if let Some(warning) = waits(&Records::default(), next_boot::armed().is_some()) {
            complain!("<4>{warning}");
        }
    });
    if Records::default()
        .pending()
        .is_some_and(|pending| pending.by_apt)
    {
        let live = live.clone();

        thread::spawn(move || loop {
            match begin::abandon_if_apt_has(&live) {
                Ok(None) => sleep(INTERVAL),
                Ok(Some(true)) => {
                    complain!("<5>apt has ended before it changed a package: no checkpoint is open any more");
                    break;
                }
                Ok(Some(false)) => break,
                Err(failure) => {
                    complain!("{failure}");
                    break;
                }
            }
        });
    }
    if let Err(failure) = live.message(&["low_water", &config.free_low.to_string()]) {
        complain!("{failure}");
    }
    loop {
        // Before the look, so that nothing is missed between it and the wait.
        let events = live.events();

        if live.state()? != State::Checkpoint {
            return Ok(());
        }
        let free = live.free()?;
        let ends = live
            .figures()
            .is_some_and(|figures| matches!(figures.condition.as_str(), "full" | "failed"));
        if free < config.free_low || ends {
            return low_space(&live, &config, free);
        }
        if events.and_then(|events| live.wait(events)).is_err() {
            sleep(INTERVAL);
        }
    }
}

/// Returns a warning of an update that has waited for its reboot for a day or longer.
fn waits(records: &Records, armed: bool) -> Option<String> {
    let begun = records.pending()?.begun;
    let what = if armed {
        "if it is rolled back then, or because the space for backups runs out before, all data since go back too. Reboot"
    } else {
        "it is not armed, and the reboot will undo it, with all data since. `bowctl arm` has it tried"
    };

    (update::now().saturating_sub(begun) >= DAY.as_secs()).then(|| {
        format!(
            "the update of {} still waits for a reboot: {what}; or `bowctl commit bow-root` keeps it untried.",
            crate::report::utc(begun)
        )
    })
}

fn low_space(live: &Live, config: &Config, free: u64) -> Result {
    let reason = format!("{} were left for backups", bytes(free));

    match config.low_space {
        LowSpace::Nothing => {
            complain!("{reason}; LOW_SPACE=nothing");
            Ok(())
        }
        LowSpace::Commit => {
            complain!("{reason}; the new state is kept (LOW_SPACE=commit)");
            begin::commit(live, &reason)
        }
        LowSpace::Rollback => {
            complain!("{reason}; rolling back (LOW_SPACE=rollback)");
            begin::request_rollback(&Failure::now(reason, Vec::new()))?;
            reboot::by_systemd(true)
        }
    }
}

/// Ends an update in the history when no checkpoint is open any more.
pub(super) fn settle() -> Result {
    let _alone = begin::alone()?;

    if let Some(live) = crate::root::live() {
        if live.state()? == State::Checkpoint {
            return Ok(());
        }
    }
    // A checkpoint that was committed before a file system was mounted has left GRUB's count.
    if let Err(failure) = grub::unset_tries() {
        complain!("{failure}");
    }
    if let Some(ended) = begin::settle("committed")? {
        let level = match ended.outcome {
            Outcome::Committed => "<5>",
            Outcome::RolledBack => "<4>",
        };

        complain!(
            "{level}update {}: {}: {}. `bowctl history` has the whole story.",
            begin::says(ended.outcome),
            ended.command.join(" "),
            ended.reason
        );
    }
    Ok(())
}

/// Has GRUB not count while the machine hibernates: to wake up is no try.
pub(super) fn before_sleep() -> Result {
    next_boot::armed().map_or(Ok(()), |_| grub::unset_tries())
}

/// Has GRUB count again, from what is left.
pub(super) fn after_sleep() -> Result {
    next_boot::armed().map_or(Ok(()), |boot| grub::set_tries(boot.tries_left).map(drop))
}

/// Waits until the trial has ended, and reboots if it does not end in time.
///
/// This is started in the initramfs and goes on after it, whatever becomes of init. The directory is opened at once,
/// since its path means nothing after the root has been switched.
pub(super) fn guard() -> Result {
    const INTERVAL: Duration = Duration::from_secs(1);
    let config = Config::read();
    let folder =
        File::open(marks::FOLDER).map_err(|error| CommandError::io(marks::FOLDER, &error))?;
    let begun = Instant::now();

    loop {
        if accessat(
            &folder,
            marks::TRY_NAME,
            rustix::fs::Access::EXISTS,
            AtFlags::empty(),
        )
        .is_err()
        {
            return Ok(());
        }
        // A little after systemd's own time, which does it in better order.
        if begun.elapsed() >= config.deadline + Duration::from_secs(30) {
            // To write anything out may hang with what this guards against, and nothing needs it.
            return reboot::without_sync();
        }
        sleep(INTERVAL);
    }
}

/// Succeeds if a block device holds the log of a checkpoint.
pub(super) fn probe_device(arguments: &[String]) -> Result {
    let [device] = arguments else {
        return Err(CommandError::new(Code::Usage, "`probe` takes one device"));
    };
    let mut first = [0; SECTOR_SIZE];

    FileDevice::open(Path::new(device), Access::Look)?
        .read_at(0, &mut first)
        .map_err(|error| CommandError::io(device, &error))?;
    // Nothing is said: udev asks at every event of a partition.
    std::process::exit(match probe(&first) {
        Some(_) => 0,
        None => Code::NoLog as i32,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::update::Pending;

    #[test]
    fn an_update_that_waits_is_warned_of_after_a_day() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::at(folder.path().to_owned());
        let begun = |seconds| {
            records
                .set_pending(&Pending {
                    begun: update::now() - seconds,
                    command: Vec::new(),
                    kernel: String::new(),
                    by_apt: true,
                    is_new: true,
                    database: None,
                })
                .unwrap();
        };

        assert_eq!(waits(&records, true), None);
        begun(3600);
        assert_eq!(waits(&records, true), None);
        begun(3 * DAY.as_secs());
        assert!(waits(&records, true).unwrap().contains("Reboot; or"));
        assert!(waits(&records, false).unwrap().contains("bowctl arm"));
    }
}
