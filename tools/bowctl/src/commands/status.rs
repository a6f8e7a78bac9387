// SPDX-License-Identifier: GPL-2.0

//! `bowctl status`: the state of live devices, and the log on plain ones.

use std::path::{Path, PathBuf};

use super::log_error::{log_error, For};
use super::{print, print_json};
use crate::device::{Access, FileDevice};
use crate::error::Result;
use crate::live::Live;
use crate::progress::Progress;
use crate::recovery::foreign;
use crate::recovery::{self, CheckOptions, RecoveryError};
use crate::report::{state_name, Block, LiveStatus, PlainStatus, Status};
use crate::users;

/// `bowctl status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow devices, plain devices or images [default: all live bow devices].
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

    Ok(LiveStatus {
        name: live.name.clone(),
        device: format!("/dev/{}", live.node),
        state: state.number(),
        state_name: state_name(state),
        free_bytes: live.free()?,
        size_bytes: live.size()?,
        below: live.slaves(),
        mounted_on: live.mount_points(),
        target_status: live.target_status(),
    })
}

fn plain_status(path: &Path) -> Result<PlainStatus> {
    let device = FileDevice::open(path, Access::Look)?;
    let mut status = PlainStatus {
        device: path.display().to_string(),
        log: "none",
        error: None,
        header: None,
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
            status.header = Some(Block::new(0, &header));
            // A log that is being written cannot be followed.
            if status.in_use.is_empty() {
                status.foreign_writes = foreign_writes(&device);
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

/// Returns the traces of writes without dm-bow; none if the log cannot be followed. Saved data is
/// not read.
fn foreign_writes(device: &FileDevice) -> Vec<String> {
    let options = CheckOptions {
        verify: false,
        ..CheckOptions::default()
    };

    recovery::check(device, options, &mut Progress::hidden(), |_| ())
        .and_then(|log| foreign::traces(device, &log))
        .unwrap_or_default()
}
