// SPDX-License-Identifier: GPL-2.0

//! `bowctl check`: checks the log of a plain device, saved data included.

use std::path::{Path, PathBuf};

use super::log_error::{log_error, For};
use super::{print, print_json};
use crate::device::{Access, FileDevice};
use crate::error::{Code, CommandError, Result};
use crate::progress::Progress;
use crate::recovery::leftovers::Record;
use crate::recovery::{self, CheckOptions, Checked, Limits};
use crate::report::Totals;

const JSON: &str = "\
JSON:
  log_blocks, entries, bytes (to copy back)
  free_map    null if the log has none
  A free_map has
    error       what is damaged; null if nothing is
    free_bytes  free at the checkpoint
    granted_bytes  of that, what the file system may have written to
    zero_bytes  what a restore zeroes";

/// `bowctl check`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// The plain device or image.
    pub device: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Believe a log whose entries come to more than 64 times the size of the device, or lie in more
    /// than 64 pieces in the mean.
    #[arg(long)]
    pub no_limit: bool,
    /// Show no progress.
    ///
    /// Otherwise it is shown on standard error: a bar on a terminal, elsewhere a line every 5 seconds.
    #[arg(long, short)]
    pub quiet: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let device = FileDevice::open(&args.device, Access::Check)?;
    let log = checked(&device, &args.device, args.no_limit, args.quiet, For::Check)?;
    let totals = Totals::from(&log);
    let path = args.device.display();

    if args.json {
        print_json(&totals)?;
    } else {
        print(&format!("{path}: the log is good: {}\n", totals.text()))?;
    }
    match log.record {
        Record::None | Record::Good(_) => Ok(()),
        Record::Damaged(error) => Err(CommandError::new(
            Code::Damaged,
            format!("{path}: the record of free space is damaged: {error}."),
        )
        .advise(format!(
            "`bowctl restore {path}` gives the old state back all the same, but what was written to free \
             space after the checkpoint stays there."
        ))),
    }
}

fn options(no_limit: bool) -> CheckOptions {
    CheckOptions {
        limits: no_limit.then_some(Limits::NONE),
        ..CheckOptions::default()
    }
}

/// Checks the log of `device`, which was opened by `path`.
pub(super) fn checked(
    device: &FileDevice,
    path: &Path,
    no_limit: bool,
    quiet: bool,
    purpose: For,
) -> Result<Checked> {
    let mut progress = Progress::new("checking", None, quiet);

    recovery::check(device, options(no_limit), &mut progress, |_| ())
        .map_err(|error| log_error(path, error, purpose))
}
