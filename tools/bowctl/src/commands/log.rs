// SPDX-License-Identifier: GPL-2.0

//! `bowctl log`: prints the log of a plain device.

use std::path::PathBuf;

use super::log_error::{log_error, For};
use super::{print, print_json};
use crate::device::{Access, FileDevice};
use crate::error::Result;
use crate::progress::Progress;
use crate::recovery::{self, CheckOptions, Finding};
use crate::report::{Block, Log, LogEntry};

const JSON: &str = "\
JSON:
  device, error
  blocks      the log blocks, newest first
  summary     as `bowctl check` prints it; null if the log is damaged
  A log block has
    sector, version, restoring, sequence, count, sector0, uuid
    block_size  in bytes
    time        of the checkpoint, in seconds since the epoch
    free_map_sector, free_map_blocks  null if there is no free map
    boot_action \"none\", \"try\", \"restore\"
    boot_tries_left, boot_tries
    entries     left out if there are none
  An entry has
    index, checksum
    source, dest  in sectors
    size        in bytes
    grant       true if it grants the sectors from source to dest";

/// `bowctl log`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// The plain device or image.
    pub device: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let path = &args.device;
    let device = FileDevice::open(path, Access::Look)?;
    let mut log = Log {
        device: path.display().to_string(),
        blocks: Vec::new(),
        summary: None,
        error: None,
    };
    let mut header = None;
    let result = recovery::check(
        &device,
        CheckOptions::LOG_ONLY,
        &mut Progress::hidden(),
        |finding| match *finding {
            Finding::Block {
                sector,
                header: found,
            } => {
                log.blocks.push(Block::new(sector, &found));
                header = Some(found);
            }
            Finding::Entry { index, entry } => {
                if let (Some(block), Some(header)) = (log.blocks.last_mut(), &header) {
                    block.entries.push(LogEntry::new(header, index, entry));
                }
            }
            Finding::Read { .. } | Finding::Valid(_) => {}
        },
    );

    match &result {
        Ok(checked) => log.summary = Some(checked.into()),
        Err(error) => log.error = Some(error.to_string()),
    }
    if args.json {
        print_json(&log)?;
    } else {
        print(&log.text())?;
    }
    result
        .map(|_| ())
        .map_err(|error| log_error(path, error, For::Check))
}
