// SPDX-License-Identifier: GPL-2.0

//! `bowctl diff`: what has changed since the checkpoint.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::PathBuf;

use bow_decisions::check::block_sectors;
use serde::Serialize;

use super::log_error::{log_error, For};
use super::subject::Subject;
use super::{print, print_json};
use crate::changes::{differing, first_block_differs};
use crate::error::Result;
use crate::files::{self, File, Lookup};
use crate::report::Block;
use crate::survey::Kind;
use crate::words::{bytes, to_bytes};

const JSON: &str = "\
JSON:
  device
  header          the newest log block, as in `bowctl log`
  compared        true with --compare
  changed_bytes
  granted_bytes   null if the log has no free map
  extents         what has changed: sector, sectors
  granted         what was free and may hold new data: sector, sectors
  files           inode, paths; null if they are not known
  files_complete  false if not all blocks were looked up
  files_note      why files are not known";

/// `bowctl diff`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// The plain device or image, or a live bow device in state 1 (its name, device node or mount
    /// point).
    pub device: PathBuf,
    /// Compare what was backed up with what is there now, and leave out what is the same.
    #[arg(long)]
    pub compare: bool,
    /// Do not look for files.
    #[arg(long)]
    pub no_files: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Changes as JSON.
#[derive(Serialize)]
struct Diff {
    device: String,
    header: Block,
    compared: bool,
    changed_bytes: u64,
    granted_bytes: Option<u64>,
    extents: Vec<Extent>,
    granted: Vec<Extent>,
    files: Option<Vec<File>>,
    files_complete: bool,
    files_note: Option<String>,
}

/// A run of sectors.
#[derive(Serialize)]
struct Extent {
    sector: u64,
    sectors: u64,
}

impl From<&Range<u64>> for Extent {
    fn from(span: &Range<u64>) -> Self {
        Self {
            sector: span.start,
            sectors: span.end - span.start,
        }
    }
}

pub(super) fn run(args: &Args) -> Result {
    let subject = Subject::get(&args.device)?;
    let (device, survey) = subject.survey()?;
    let failed = |error| log_error(&subject.path, error, For::Check);
    let mut changed: Vec<_> = survey.of(Kind::Changed).cloned().collect();
    let granted: Vec<_> = survey.of(Kind::Granted).cloned().collect();

    if args.compare {
        changed = differing(&device, &survey.log, &changed).map_err(failed)?;
    }
    // The first block is backed up in any case.
    if first_block_differs(&device, &survey.log).map_err(failed)? {
        let end = block_sectors(&survey.log.header);

        match changed.first_mut() {
            Some(first) if first.start == end => first.start = 0,
            _ => changed.insert(0, 0..end),
        }
    }
    let lookup = match args.no_files {
        true => Err("not asked for".to_owned()),
        false => {
            let spans: Vec<_> = changed.iter().chain(&granted).cloned().collect();

            files::find(&device, &survey.log, subject.live.as_ref(), &spans)
        }
    };
    let total =
        |spans: &[Range<u64>]| to_bytes(spans.iter().map(|span| span.end - span.start).sum());
    let (files, files_complete, files_note) = match lookup {
        Ok(Lookup { files, complete }) => (Some(files), complete, None),
        Err(note) => (None, false, Some(note)),
    };
    let diff = Diff {
        device: subject.path.display().to_string(),
        header: Block::new(0, &survey.log.header),
        compared: args.compare,
        changed_bytes: total(&changed),
        granted_bytes: survey.has_map.then(|| total(&granted)),
        extents: changed.iter().map(Extent::from).collect(),
        granted: granted.iter().map(Extent::from).collect(),
        files,
        files_complete,
        files_note,
    };

    if args.json {
        print_json(&diff)
    } else {
        print(&diff.text(&subject.shown(), args.no_files))
    }
}

impl Diff {
    /// Formats the difference as lines of text.
    fn text(&self, shown: &str, no_files: bool) -> String {
        let mut text = format!(
            "{shown}: since the {}:\n{} {} in {} extent{}\n",
            self.header.checkpoint(),
            bytes(self.changed_bytes),
            if self.compared {
                "differ"
            } else {
                "were backed up, for a write to them or next to them,"
            },
            self.extents.len(),
            if self.extents.len() == 1 { "" } else { "s" },
        );

        for extent in &self.extents {
            let _ = writeln!(
                text,
                "  sector {:>12}  {:>10} sectors  {:>12} bytes",
                extent.sector,
                extent.sectors,
                to_bytes(extent.sectors)
            );
        }
        let _ = match self.granted_bytes {
            Some(granted) => writeln!(
                text,
                "up to {} of new data in space that was free",
                bytes(granted)
            ),
            None => writeln!(
                text,
                "new data in space that was free: not known, since the log has no free map"
            ),
        };
        match (&self.files, &self.files_note) {
            (Some(files), _) => {
                let _ = writeln!(
                    text,
                    "{} file{} with data there{}",
                    files.len(),
                    if files.len() == 1 { "" } else { "s" },
                    if self.files_complete {
                        ""
                    } else {
                        " (not all blocks were looked up, so that there may be more)"
                    }
                );
                for file in files {
                    let _ = writeln!(text, "  {file}");
                }
            }
            (None, Some(note)) if !no_files => {
                let _ = writeln!(text, "files: not known, {note}");
            }
            _ => {}
        }
        text
    }
}
