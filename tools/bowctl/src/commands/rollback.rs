// SPDX-License-Identifier: GPL-2.0

//! `bowctl rollback`: goes back to the checkpoint, at once or at the next boot.

use std::path::{Path, PathBuf};

use super::{print, tell};
use crate::error::{Code, CommandError, Result};
use crate::live::Live;
use crate::root::update::Failure;
use crate::root::{self, begin, reboot};
use crate::swap_back;

/// `bowctl rollback`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow device, by its name, device node or mount point [default: that of the root file system].
    pub target: Option<PathBuf>,
    /// Reason, for the report. (The root file system only.)
    #[arg(long, value_name = "TEXT", default_value = "asked for")]
    pub reason: String,
    /// Reboot at once, without ending what runs. (The root file system only.)
    #[arg(long)]
    pub reboot: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let target = args
        .target
        .clone()
        .unwrap_or_else(|| PathBuf::from(root::NAME));
    let live = match Live::find(&target) {
        Some(live) => live,
        None if target == Path::new(root::NAME) => begin::live()?,
        None => Live::get(&target)?,
    };

    if live.name == root::NAME {
        return of_root(args);
    }
    if args.reboot {
        return Err(CommandError::new(
            Code::Usage,
            format!("{}: it is not under the root file system", live.name),
        )
        .advise("It is rolled back without a reboot: leave `--reboot` out."));
    }
    let sentence = swap_back::now(&live)?;
    tell(&format!("{sentence}\n"));
    Ok(())
}

fn of_root(args: &Args) -> Result {
    begin::request_rollback(&Failure::now(args.reason.clone(), Vec::new()))?;
    if args.reboot {
        tell("Rebooting to roll back.\n");
        return reboot::by_systemd(true);
    }
    print("The next boot rolls back to the checkpoint. Reboot when it suits.\n")
}
