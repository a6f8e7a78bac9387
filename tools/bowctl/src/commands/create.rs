// SPDX-License-Identifier: GPL-2.0

//! `bowctl create`: a bow device over a block device.

use std::path::{Path, PathBuf};

use bow_decisions::log::{block_size_valid, probe, SECTOR_SIZE};
use bow_decisions::low_water::LowWater;
use bow_decisions::table::OnFull;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::print;
use crate::device::{Access, BlockDevice, FileDevice};
use crate::error::{Code, CommandError, Result};
use crate::live::{self, Live};
use crate::signature;

/// `bowctl create`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the new device, which will be /dev/mapper/NAME.
    pub name: String,
    /// The underlying block device.
    pub device: PathBuf,
    /// Unit of backup in bytes: 512, 1024, 2048 or 4096 [default: 4096].
    ///
    /// The device may end in the middle of a block; this last block is backed up too, but never holds
    /// a backup.
    #[arg(long, value_name = "BYTES", value_parser = block_size)]
    pub block_size: Option<u32>,
    /// Policies of the device.
    #[command(flatten)]
    pub policies: Policies,
    /// Also over a layer or file system that does not belong on a bow device.
    #[arg(long)]
    pub force: bool,
}

/// Policies of a device, new or resumed.
#[derive(Debug, clap::Args)]
pub struct Policies {
    /// Policy for free space that runs out [default: error].
    #[arg(long, value_name = "POLICY", value_parser = on_full())]
    pub on_full: Option<OnFull>,
    /// Event when less than that is free for backups, in bytes or as N% of what was free at the checkpoint.
    #[arg(long, value_name = "MARK", value_parser = low_water)]
    pub low_water: Option<LowWater>,
    /// Keep discards from the underlying device, which are passed down otherwise.
    #[arg(long)]
    pub no_discard_passdown: bool,
}

impl Policies {
    /// Returns the arguments of the table line.
    pub(super) fn arguments(&self) -> impl Iterator<Item = String> {
        let on_full = self
            .on_full
            .map(|policy| format!("on_full:{}", policy.word()));
        let passdown = self
            .no_discard_passdown
            .then(|| "no_discard_passdown".to_owned());

        let low_water = self.low_water.map(|mark| format!("low_water:{mark}"));

        on_full.into_iter().chain(low_water).chain(passdown)
    }
}

/// Reads a policy by the word that a table line has for it.
fn on_full() -> impl TypedValueParser<Value = OnFull> {
    let words = [OnFull::Error, OnFull::Commit, OnFull::Wait].map(|policy| {
        PossibleValue::new(policy.word()).help(match policy {
            OnFull::Error => "The write fails with ENOSPC; rollback stays possible",
            OnFull::Commit => "The checkpoint is committed, the new state stays, writes go on",
            OnFull::Wait => "The write waits for free space, or for a commit",
        })
    });

    PossibleValuesParser::new(words)
        .map(|word| OnFull::from_word(word.as_bytes()).unwrap_or(OnFull::Error))
}

fn low_water(text: &str) -> std::result::Result<LowWater, String> {
    LowWater::from_word(text.as_bytes())
        .ok_or_else(|| "neither a number of bytes nor a percentage up to 100%".to_owned())
}

fn block_size(text: &str) -> std::result::Result<u32, String> {
    text.parse()
        .ok()
        .filter(|size| block_size_valid(*size))
        .ok_or_else(|| "not a power of two from 512 to 4096".to_owned())
}

pub(super) fn run(args: &Args) -> Result {
    // Opened to see that it is there and free, and closed again for the target.
    let device = FileDevice::open(&args.device, Access::Check)?;
    let path = args
        .device
        .canonicalize()
        .map_err(|error| CommandError::io(args.device.display(), &error))?;
    let sectors = device.sectors();
    let mut first = [0; SECTOR_SIZE];

    device
        .read_at(0, &mut first)
        .map_err(|error| CommandError::io(path.display(), &error))?;
    if probe(&first).is_some() {
        return Err(CommandError::new(
            Code::State,
            format!(
                "{}: it holds a checkpoint that is still open",
                path.display()
            ),
        )
        .advise(format!(
            "`bowctl resume {1} {0}` goes on with it, `bowctl restore {0}` goes back to it, `bowctl commit {0}` \
             keeps the new state.",
            args.device.display(),
            args.name
        )));
    }
    if !args.force {
        signature::refuse(&device, &args.device)?;
    }
    drop(device);

    let mut options = Vec::new();
    if let Some(size) = args.block_size {
        options.push(format!("block_size:{size}"));
    }
    options.extend(args.policies.arguments());

    make(&args.name, &path, sectors, &options)
}

/// Makes the device-mapper device `name` over the block device `path`, of `sectors` sectors, with these
/// arguments of the table line. Prints the line and the block size.
pub(super) fn make(name: &str, path: &Path, sectors: u64, options: &[String]) -> Result {
    let mut table = format!("0 {sectors} bow {}", path.display());
    if !options.is_empty() {
        table.push_str(&format!(" {} {}", options.len(), options.join(" ")));
    }
    live::create(name, &table)?;
    print(&format!("/dev/mapper/{name}: {table}\n"))?;
    match Live::find(Path::new(name)).and_then(|live| live.figures()) {
        Some(figures) => print(&format!(
            "{name}: {}\n",
            blocks(figures.block_size, sectors)
        )),
        None => Ok(()),
    }
}

/// Says in what blocks a device of `sectors` sectors is backed up.
fn blocks(block_size: u64, sectors: u64) -> String {
    let rest = sectors * SECTOR_SIZE as u64 % block_size.max(1);

    match rest {
        0 => format!("block size {block_size}"),
        _ => format!(
            "block size {block_size}; the last {rest} bytes of the device are less than a block: \
             they are backed up too, but never hold a backup"
        ),
    }
}
