// SPDX-License-Identifier: GPL-2.0

//! `bowctl restore`: rolls a plain device back to its checkpoint.

use std::path::{Path, PathBuf};

use super::check::checked;
use super::log_error::{log_error, For};
use super::tell;
use crate::device::{Access, FileDevice};
use crate::error::{complain, Code, CommandError, Result};
use crate::progress::Progress;
use crate::recovery;
use crate::recovery::aftermath;
use crate::recovery::foreign;
use crate::recovery::leftovers::{Record, RecordError};
use crate::report::Totals;

/// `bowctl restore`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The plain device or image.
    pub device: PathBuf,
    /// Check the log and say what would be done, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Believe a log whose entries come to more than 64 times the size of the device, or lie in more
    /// than 64 pieces in the mean.
    #[arg(long)]
    pub no_limit: bool,
    /// Restore although the device has been written to without dm-bow since the checkpoint, or the
    /// record of free space cannot be read. What was written without dm-bow, or to free space, is not
    /// undone.
    #[arg(long)]
    pub force: bool,
    /// Show no progress.
    ///
    /// Otherwise it is shown on standard error: a bar on a terminal, elsewhere a line every 5 seconds.
    #[arg(long, short)]
    pub quiet: bool,
    /// Hide the file system from boot loaders until the restore is complete.
    #[arg(skip)]
    pub hides: bool,
    /// Nobody is there who could run it again: a machine that comes up counts for more than free space that is zeroed.
    #[arg(skip)]
    pub by_itself: bool,
}

pub(crate) fn run(args: &Args) -> Result {
    let path = &args.device;
    let access = if args.dry_run {
        Access::Check
    } else {
        Access::Write
    };
    let mut device = FileDevice::open(path, access)?;
    let log = checked(&device, path, args.no_limit, args.quiet, For::Restore)?;
    let totals = Totals::from(&log);
    let zeroes = totals.free_map.as_ref().map_or(0, |map| map.zero_bytes);
    let failed = |error| log_error(path, error, For::Restore);
    let traces = foreign::traces(&device, &log).map_err(failed)?;
    let advice = aftermath::advice(&device, &log, &path.display().to_string()).map_err(failed)?;

    // What is not zeroed now cannot be made up for.
    if let (Record::Damaged(RecordError::Read(error)), false) =
        (&log.record, args.force || args.by_itself)
    {
        return Err(CommandError::new(
            Code::Failed,
            format!(
                "{}: the record of free space: {error}. Nothing was written.",
                path.display()
            ),
        )
        .advise(format!(
            "Run it again. If that does not help, `bowctl restore --force {}` restores without that record: what was \
             written to free space since the checkpoint stays there then.",
            path.display()
        )));
    }
    // Once a restore has begun, only its end helps.
    if !traces.is_empty() && !args.force && !log.header.restoring {
        return Err(refused(path, &traces));
    }

    if args.dry_run {
        return super::print(&format!(
            "{}: the log is good: {}. Nothing was written.\n",
            path.display(),
            totals.text()
        ));
    }

    let mut progress = Progress::new(
        "restoring",
        Some(totals.bytes.saturating_add(zeroes)),
        args.quiet,
    );
    recovery::restore_hiding(&mut device, &log, args.hides, &mut progress).map_err(|error| {
        CommandError::new(Code::Failed, format!("{}: {error}", path.display())).advise(format!(
            "The restore is not complete. When the cause is mended, run `bowctl restore {}` \
             again; it takes up where it was.",
            path.display()
        ))
    })?;
    drop(progress);
    tell(&format!(
        "{}: restored: {}\n",
        path.display(),
        totals.text()
    ));
    if !traces.is_empty() {
        complain!(
            "{0} was written to without dm-bow: {1}. What was written then is still there. Check \
             the file system before it is mounted (`fsck -f {0}`); files may be damaged all the \
             same.",
            path.display(),
            traces.join("; ")
        );
    }
    if let Some(advice) = advice {
        complain!("{}: {advice}", path.display());
    }
    Ok(())
}

/// Returns the error for a device that was written to without dm-bow.
fn refused(path: &Path, traces: &[String]) -> CommandError {
    CommandError::new(
        Code::State,
        format!(
            "{}: it seems to have been written to without dm-bow since the checkpoint: {}. \
             Nothing was written.",
            path.display(),
            traces.join("; ")
        ),
    )
    .advise(format!(
        "A restore does not undo such writes, and what it leaves may be damaged. `bowctl restore \
         --force {0}` does it all the same, and then `fsck -f {0}` is needed; `bowctl commit {0}` \
         keeps the new state. Keep an image of the device if both may be wrong.",
        path.display()
    ))
}
