// SPDX-License-Identifier: GPL-2.0

//! `bowctl map`: a device with a checkpoint as a picture.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::PathBuf;

use serde::Serialize;

use super::subject::Subject;
use super::{print, print_json};
use crate::error::{complain, CommandError, Result};
use crate::picture;
use crate::report::Block;
use crate::survey::{Kind, Survey};
use crate::words::to_bytes;

/// Width of a picture where there is no terminal.
const WIDTH: usize = 80;

const JSON: &str = "\
JSON:
  device
  block_size  in bytes
  sectors     of the device
  header      the newest log block, as in `bowctl log`
  free_map    true if the log says what was free
  totals      bytes of each kind
  extents     in order, all of the device: sector, sectors, kind
  The kinds:
    unchanged  not free at the checkpoint, not written since
    changed    not free at the checkpoint, backed up since
    free       free at the checkpoint, still takes backups
    granted    free at the checkpoint, may hold new data
    backup     holds backups
    log        holds the log, its free map, or the relocated first block
    unknown    not in the log, which has no free map";

/// `bowctl map`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// The plain device or image, or a live bow device in state 1 (its name, device node or mount
    /// point).
    pub device: PathBuf,
    /// Write the picture to FILE as SVG.
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub svg: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A map as JSON.
#[derive(Serialize)]
struct Map {
    device: String,
    block_size: u32,
    sectors: u64,
    header: Block,
    free_map: bool,
    totals: Totals,
    extents: Vec<Extent>,
}

/// Bytes of each kind.
#[derive(Serialize)]
struct Totals {
    unchanged: u64,
    changed: u64,
    free: u64,
    granted: u64,
    backup: u64,
    log: u64,
    unknown: u64,
}

/// A run of sectors of one kind.
#[derive(Serialize)]
struct Extent {
    sector: u64,
    sectors: u64,
    kind: &'static str,
}

impl Map {
    fn new(device: String, survey: &Survey) -> Self {
        let total = |kind| to_bytes(survey.total(kind));

        Self {
            device,
            block_size: survey.log.header.block_size,
            sectors: survey.extents.last().map_or(0, |last| last.sectors.end),
            header: Block::new(0, &survey.log.header),
            free_map: survey.has_map,
            totals: Totals {
                unchanged: total(Kind::Unchanged),
                changed: total(Kind::Changed),
                free: total(Kind::Free),
                granted: total(Kind::Granted),
                backup: total(Kind::Backup),
                log: total(Kind::Log),
                unknown: total(Kind::Unknown),
            },
            extents: survey
                .extents
                .iter()
                .map(|extent| Extent {
                    sector: extent.sectors.start,
                    sectors: extent.sectors.end - extent.sectors.start,
                    kind: extent.kind.word(),
                })
                .collect(),
        }
    }
}

pub(super) fn run(args: &Args) -> Result {
    let subject = Subject::get(&args.device)?;
    let (_, survey) = subject.survey()?;
    let header = Block::new(0, &survey.log.header);
    let title = format!("{}: {}", subject.shown(), header.checkpoint());

    if args.json {
        return print_json(&Map::new(subject.path.display().to_string(), &survey));
    }
    if let Some(path) = &args.svg {
        fs::write(path, picture::svg(&survey.extents, &title))
            .map_err(|error| CommandError::io(path.display(), &error))?;
    } else {
        // As https://no-color.org has it.
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = io::stdout().is_terminal() && !no_colour;

        print(&format!(
            "{title}\n{}",
            picture::terminal(&survey.extents, width(), colours)
        ))?;
    }
    if let Some(error) = &survey.map_error {
        complain!(
            "{}: the free map cannot be read: {error}. What was free at the checkpoint is not \
             shown. A restore gives back all that was not free without it.",
            subject.shown()
        );
    } else if !survey.has_map {
        complain!(
            "{}: its log has no free map, so that what is not in the log may be unchanged or \
             free.",
            subject.shown()
        );
    }
    Ok(())
}

/// Returns the width of the terminal in characters.
fn width() -> usize {
    rustix::termios::tcgetwinsize(io::stdout())
        .map(|size| usize::from(size.ws_col))
        .ok()
        .filter(|columns| *columns > 0)
        .unwrap_or(WIDTH)
}
