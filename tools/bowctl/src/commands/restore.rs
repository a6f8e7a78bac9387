// SPDX-License-Identifier: GPL-2.0

//! `bowctl restore`: rolls a plain device back to its checkpoint.

use std::path::PathBuf;

use super::check::checked;
use super::log_failure::For;
use super::print;
use crate::device::{Access, FileDevice};
use crate::failure::{Code, Failure, Result};
use crate::progress::Progress;
use crate::repair;
use crate::report::Totals;

/// `bowctl restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plain device or image.
    pub device: PathBuf,
    /// Check the log and say what would be done, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Believe a log that holds more than 64 times the device's size, or lies in more than 64
    /// pieces an entry.
    #[arg(long)]
    pub no_limit: bool,
    /// Show no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let path = &args.device;
    let access = if args.dry_run {
        Access::Check
    } else {
        Access::Write
    };
    let mut device = FileDevice::open(path, access)?;
    let totals = checked(&device, path, args.no_limit, args.quiet, For::Restore)?;

    if args.dry_run {
        return print(&format!(
            "{}: the log is good: {}. Nothing was written.\n",
            path.display(),
            Totals::from(totals).text()
        ));
    }

    let mut progress = Progress::new("restoring", Some(totals.bytes), args.quiet);
    repair::restore(&mut device, &mut progress).map_err(|error| {
        Failure::new(Code::Failed, format!("{}: {error}", path.display())).advise(format!(
            "The restore is not complete. When the cause is mended, run `bowctl restore {}` \
             again; it takes up where it was.",
            path.display()
        ))
    })?;
    drop(progress);
    print(&format!(
        "{}: restored: {}\n",
        path.display(),
        Totals::from(totals).text()
    ))
}
