// SPDX-License-Identifier: GPL-2.0

//! `bowctl commit`: ends checkpoints of live devices or of plain ones, and keeps the new state.

use std::path::{Path, PathBuf};

use bow_decisions::state::State;

use super::log_error::{log_error, For};
use super::{print, tell};
use crate::device::{Access, FileDevice};
use crate::error::{Code, CommandError, Result};
use crate::ext;
use crate::live::Live;
use crate::mount;
use crate::recovery;
use crate::report::Block;
use crate::root::{self, begin, marks};
use crate::stack;

/// `bowctl commit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow devices (each by its name, device node or mount point), or plain devices or images.
    /// Several are committed in this order: first what the machine needs to boot.
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<PathBuf>,
    /// Say what would be done, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// Device that is committed.
enum Target {
    Live(Live),
    Plain(PathBuf),
}

pub(super) fn run(args: &Args) -> Result {
    let targets = args.targets.iter().map(|path| match Live::find(path) {
        Some(live) => Target::Live(live),
        None => Target::Plain(path.clone()),
    });
    let mut open = Vec::new();
    let mut without = Vec::new();

    // All are looked at before the first is changed.
    for target in targets {
        match target.ready() {
            Ok(true) => open.push(target),
            Ok(false) => {}
            Err(failure) if failure.code == Code::NoLog => without.push((target, failure)),
            Err(failure) => return Err(failure),
        }
    }
    // One that has no checkpoint is done, if others have: a commit of all was cut off.
    if open.is_empty() {
        return without.pop().map_or(Ok(()), |(_, failure)| Err(failure));
    }
    for (target, _) in &without {
        print(&format!(
            "{}: no checkpoint, nothing to do\n",
            target.shown()
        ))?;
    }
    for target in &open {
        if args.dry_run {
            print(&format!(
                "{}: the new state would be kept\n",
                target.shown()
            ))?;
        } else {
            target.commit()?;
        }
    }
    Ok(())
}

impl Target {
    fn shown(&self) -> String {
        match self {
            Self::Live(live) => live.name.clone(),
            Self::Plain(path) => path.display().to_string(),
        }
    }

    /// Returns whether there is a checkpoint to commit. Says so if it was committed already.
    fn ready(&self) -> Result<bool> {
        match self {
            Self::Live(live) => match live.state()? {
                State::Checkpoint => Ok(true),
                State::Tracking => Err(CommandError::new(
                    Code::NoLog,
                    format!("{}: there is no checkpoint to commit", live.name),
                )
                .advise(format!("`bowctl checkpoint {}` takes one.", live.name))),
                State::Committed => {
                    print(&format!("{}: committed already\n", live.name))?;
                    Ok(false)
                }
            },
            Self::Plain(path) => recovery::can_commit(&FileDevice::open(path, Access::Check)?)
                .map(|_| true)
                .map_err(|error| log_error(path, error, For::Commit)),
        }
    }

    fn commit(&self) -> Result {
        match self {
            Self::Live(live) => commit_live(live),
            Self::Plain(path) => commit_plain(path),
        }
    }
}

/// Commits the checkpoint of a live device.
pub(super) fn commit_live(live: &Live) -> Result {
    let name = &live.name;

    if *name == root::NAME {
        return begin::commit(
            live,
            if marks::is_try() {
                "the updated system is healthy"
            } else {
                "asked for"
            },
        );
    }
    live.commit()?;
    tell(&format!("{name}: committed\n"));

    let devices = stack::above([live.number.clone()]);
    devices.iter().for_each(|number| ext::forget_trims(number));
    if live.discards_below() {
        for point in devices.iter().flat_map(|number| mount::points_of(number)) {
            tell(&format!(
                "{name}: the underlying device has not seen the discards since the checkpoint: trim {point} when it \
                 suits (`fstrim`)\n"
            ));
        }
    }
    Ok(())
}

fn commit_plain(path: &Path) -> Result {
    let mut device = FileDevice::open(path, Access::Write)?;
    let block = recovery::can_commit(&device)
        .map(|header| Block::new(0, &header))
        .map_err(|error| log_error(path, error, For::Commit))?;

    recovery::commit(&mut device).map_err(|error| log_error(path, error, For::Commit))?;
    tell(&format!(
        "{}: {}: committed, the new state is kept\n",
        path.display(),
        block.checkpoint()
    ));
    Ok(())
}
