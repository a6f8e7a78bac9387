// SPDX-License-Identifier: GPL-2.0

//! `bowctl resume`: a bow device that goes on with the checkpoint on a block device.

use std::path::PathBuf;

use super::create::{make, Policies};
use super::log_error::{log_error, For};
use crate::device::{Access, BlockDevice, FileDevice};
use crate::error::{Code, CommandError, Result};
use crate::progress::Progress;
use crate::recovery::{self, foreign, CheckOptions};
use crate::report::Block;

/// `bowctl resume`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the new device, which will be /dev/mapper/NAME.
    pub name: String,
    /// The underlying block device, which holds an open checkpoint.
    pub device: PathBuf,
    /// Policies of the device.
    #[command(flatten)]
    pub policies: Policies,
    /// Resume although the device has been written to without dm-bow since the checkpoint. A restore
    /// does not undo what was written then.
    #[arg(long)]
    pub force: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let shown = args.device.display();
    // Opened to read the log as the target will, and closed again for the target.
    let device = FileDevice::open(&args.device, Access::Check)?;
    let path = args
        .device
        .canonicalize()
        .map_err(|error| CommandError::io(&shown, &error))?;
    let failed = |error| log_error(&args.device, error, For::Resume);
    let header = recovery::can_resume(&device).map_err(failed)?;

    if !args.force {
        refuse_foreign_writes(&device, args)?;
    }
    let sectors = device.sectors();
    drop(device);

    // A log of version 1.2 has an identity; so nothing else that is put there meanwhile is resumed.
    let uuid = Block::new(0, &header).uuid.unwrap_or_default();
    let mut options = vec![format!("resume:{uuid}")];
    options.extend(args.policies.arguments());
    make(&args.name, &path, sectors, &options)
}

/// Refuses a device that was written to without dm-bow since the checkpoint.
fn refuse_foreign_writes(device: &FileDevice, args: &Args) -> Result {
    let shown = args.device.display();
    let progress = &mut Progress::hidden();
    let traces = recovery::check(device, CheckOptions::LOG_ONLY, progress, |_| ())
        .and_then(|log| foreign::traces(device, &log))
        .map_err(|error| log_error(&args.device, error, For::Resume))?;

    if traces.is_empty() {
        return Ok(());
    }
    Err(CommandError::new(
        Code::State,
        format!(
            "{shown}: it seems to have been written to without dm-bow since the checkpoint: {}. Nothing was \
             written.",
            traces.join("; ")
        ),
    )
    .advise(format!(
        "A restore does not undo such writes. `bowctl resume --force {} {shown}` goes on all the same; `bowctl \
         commit {shown}` keeps the new state.",
        args.name
    )))
}
