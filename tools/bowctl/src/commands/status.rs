// SPDX-License-Identifier: GPL-2.0

//! `bowctl status`: the state of live devices, and the log on plain ones.

use std::path::{Path, PathBuf};

use bow_decisions::log::Header;
use bow_decisions::state::State;

use super::log_error::{log_error, For};
use super::{print, print_json};
use crate::device::{Access, FileDevice};
use crate::error::Result;
use crate::live::Live;
use crate::recovery::foreign;
use crate::recovery::{self, RecoveryError};
use crate::report::{state_name, Block, LiveStatus, PlainStatus, Space, Status};
use crate::survey::{free_at_checkpoint, Kind, Survey};
use crate::users;
use crate::words::{age, to_bytes};

const JSON: &str = "\
JSON:
  An array, an object for each device. One with kind \"live\" has
    name, device, below (underlying devices), mounted_on, size_bytes
    state       0, 1, 2
    state_name  \"tracking\", \"checkpoint\", \"committed\"
    free_bytes  known to be free (state 0), left for backups (state 1)
    on_full     the policy: \"error\", \"commit\", \"wait\"
    condition   \"ok\", \"low\", \"full\", \"failed\"
    header      the newest log block, as in `bowctl log`
    age_seconds of the checkpoint
    space       see below
    target_status  the target's own line
  One with kind \"plain\" has
    device, header, age_seconds, space, in_use
    log         \"none\", \"checkpoint\", \"restoring\", \"damaged\"
    error       what is damaged; only if something is
    foreign_writes  a phrase for each trace of writes without dm-bow
  A space has, in bytes,
    free_at_checkpoint
    free        left for backups
    backups     with the log
    granted     what new data has taken, or may have
  What is not known is null.";

/// `bowctl status`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// Live bow devices, plain devices or images [default: all live bow devices].
    #[arg(value_name = "TARGET")]
    pub targets: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let targets: Vec<PathBuf> = match args.targets.as_slice() {
        [] => Live::all()
            .iter()
            .map(|live| live.name.clone().into())
            .collect(),
        targets => targets.to_vec(),
    };
    let mut reports = Vec::new();

    for target in &targets {
        reports.push(match Live::find(target) {
            Some(live) => Status::Live(live_status(&live)?),
            None => Status::Plain(plain_status(target)?),
        });
    }
    if args.json {
        return print_json(&reports);
    }
    if reports.is_empty() {
        return print("no live bow devices\n");
    }
    print(&reports.iter().map(Status::text).collect::<String>())?;
    print(&left_to_do(&reports))
}

/// Says what is left to do where a commit or a restore of several devices was cut off.
fn left_to_do(reports: &[Status]) -> String {
    let with = |log: &str| -> Vec<&str> {
        reports
            .iter()
            .filter_map(|report| match report {
                Status::Plain(plain) if plain.log == log => Some(plain.device.as_str()),
                _ => None,
            })
            .collect()
    };
    let (open, ended) = (with("checkpoint"), with("none"));

    if open.is_empty() || ended.is_empty() {
        return String::new();
    }
    format!(
        "Of one checkpoint of all of these, {0} still has its part and {1} has not. If a commit \
         was begun, or the checkpoint was only being taken: `bowctl commit {0}` completes it. \
         If {1} was restored: `bowctl restore` on {0}.\n",
        open.join(" "),
        ended.join(" ")
    )
}

fn live_status(live: &Live) -> Result<LiveStatus> {
    let state = live.state()?;
    let figures = live.figures();
    let free = live.free()?;
    let log = match state {
        State::Checkpoint => live_log(live),
        State::Tracking | State::Committed => None,
    };
    let header = log.as_ref().map(|(_, header)| Block::new(0, header));
    let space = figures
        .as_ref()
        .filter(|_| state == State::Checkpoint)
        .map(|figures| {
            let backups = to_bytes(figures.backup);
            let was_free = log
                .as_ref()
                .and_then(|(device, header)| free_at_checkpoint(device, header))
                .map(to_bytes);

            Space {
                free_at_checkpoint: was_free,
                free: Some(free),
                backups,
                granted: was_free.map(|bytes| bytes.saturating_sub(free).saturating_sub(backups)),
            }
        });

    Ok(LiveStatus {
        name: live.name.clone(),
        device: format!("/dev/{}", live.node),
        state: state.number(),
        state_name: state_name(state),
        free_bytes: free,
        size_bytes: live.size()?,
        below: live.slaves(),
        mounted_on: live.mount_points(),
        on_full: live.on_full(),
        condition: figures.map(|figures| figures.condition),
        age_seconds: header.as_ref().and_then(|header| age(header.time?)),
        header,
        space,
        target_status: live.target_status(),
    })
}

/// Reads the newest log block of a live device, if that can be done.
fn live_log(live: &Live) -> Option<(FileDevice, Header)> {
    let device = FileDevice::open(&live.underlying()?, Access::Look).ok()?;
    let header = recovery::header(&device).ok()?;

    Some((device, header))
}

fn plain_status(path: &Path) -> Result<PlainStatus> {
    let device = FileDevice::open(path, Access::Look)?;
    let mut status = PlainStatus {
        device: path.display().to_string(),
        log: "none",
        error: None,
        header: None,
        age_seconds: None,
        space: None,
        in_use: users::of(path),
        foreign_writes: Vec::new(),
    };

    match recovery::header(&device) {
        Ok(header) => {
            status.log = if header.restoring {
                "restoring"
            } else {
                "checkpoint"
            };
            status.age_seconds = header.identity.and_then(|identity| age(identity.time));
            status.header = Some(Block::new(0, &header));
            // A log that is being written cannot be followed. Of one that is damaged further on,
            // `bowctl check` says more.
            if status.in_use.is_empty() {
                if let Ok(survey) = Survey::new(&device) {
                    status.foreign_writes =
                        foreign::traces(&device, &survey.log).unwrap_or_default();
                    status.space = Some(space(&survey));
                }
            }
        }
        Err(RecoveryError::NoLog) => {}
        Err(error @ RecoveryError::Invalid(_)) => {
            status.log = "damaged";
            status.error = Some(error.to_string());
        }
        Err(error) => return Err(log_error(path, error, For::Check)),
    }
    Ok(status)
}

/// Returns the use of the space of a plain device.
fn space(survey: &Survey) -> Space {
    let total = |kind| to_bytes(survey.total(kind));
    let known = |bytes| survey.has_map.then_some(bytes);
    let backups = total(Kind::Backup).saturating_add(total(Kind::Log));
    let (free, granted) = (total(Kind::Free), total(Kind::Granted));

    Space {
        free_at_checkpoint: known(free.saturating_add(granted).saturating_add(backups)),
        free: known(free),
        backups,
        granted: known(granted),
    }
}
