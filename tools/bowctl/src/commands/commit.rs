// SPDX-License-Identifier: GPL-2.0

//! `bowctl commit`: ends the checkpoint of a live device or of a plain one, and keeps the new state.

use std::path::{Path, PathBuf};

use super::log_failure::{failure, For};
use super::print;
use crate::device::{Access, FileDevice};
use crate::failure::{Code, Failure, Result};
use crate::live::{Live, State};
use crate::repair;
use crate::report::Block;

/// `bowctl commit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A live bow device (its name, device node or mount point), or a plain device or image.
    pub target: PathBuf,
    /// Say what would be done, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

pub(super) fn run(args: &Args) -> Result {
    match Live::find(&args.target) {
        Some(live) => commit_live(&live, args.dry_run),
        None => commit_plain(&args.target, args.dry_run),
    }
}

fn commit_live(live: &Live, dry_run: bool) -> Result {
    let name = &live.name;

    match live.state()? {
        State::Checkpoint => {}
        State::Trim => {
            return Err(Failure::new(
                Code::State,
                format!("{name}: there is no checkpoint to commit"),
            )
            .advise(format!("`bowctl checkpoint {name}` takes one.")))
        }
        State::Committed => return print(&format!("{name}: committed already\n")),
    }
    if dry_run {
        return print(&format!("{name}: the new state would be kept\n"));
    }
    live.set_state(State::Committed).map_err(|error| {
        Failure::io(format_args!("{name}: committing"), &error)
            .advise("The kernel's log says why (`dmesg | tail`).")
    })?;
    print(&format!("{name}: committed\n"))
}

fn commit_plain(path: &Path, dry_run: bool) -> Result {
    let access = if dry_run {
        Access::Check
    } else {
        Access::Write
    };
    let mut device = FileDevice::open(path, access)?;
    let block = repair::can_keep_new(&device)
        .map(|header| Block::new(0, &header))
        .map_err(|error| failure(path, error, For::Commit))?;

    if dry_run {
        return print(&format!(
            "{}: {}: the new state would be kept\n",
            path.display(),
            block.checkpoint()
        ));
    }
    repair::keep_new(&mut device).map_err(|error| failure(path, error, For::Commit))?;
    print(&format!(
        "{}: {}: committed, the new state is kept\n",
        path.display(),
        block.checkpoint()
    ))
}
