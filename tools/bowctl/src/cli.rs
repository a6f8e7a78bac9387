// SPDX-License-Identifier: GPL-2.0

//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXAMPLES: &str = "\
Examples:
  An update that can be taken back:
    bowctl create data /dev/vdb1        /dev/mapper/data is /dev/vdb1 through bow
    mount /dev/mapper/data /mnt
    bowctl checkpoint /mnt              trims, freezes, takes the checkpoint, thaws
    ...                                 the update
    bowctl commit data                  keep it, or:

    umount /mnt; dmsetup remove data
    bowctl restore /dev/vdb1            back to the checkpoint, bit for bit

  After a power cut, on the plain device:
    bowctl status /dev/vdb1             is there a checkpoint on it?
    bowctl restore --dry-run /dev/vdb1
    bowctl restore /dev/vdb1            or `bowctl commit /dev/vdb1`

Exit codes:
  0  done
  1  something failed, an I/O error for instance
  2  the command line is wrong
  3  the device holds no log: there is no checkpoint on it
  4  the log is damaged; nothing was written
  5  the device is mounted or in use; nothing was written
  6  a restore has begun on the device and must be finished; nothing was written
  7  the device's state does not allow this; nothing was changed";

/// Checkpoints of a dm-bow device: take one, keep what came after, or roll back to it.
///
/// A checkpoint needs no second partition: the blocks that are written after it are backed up in
/// the file system's own free space, until the checkpoint is committed or restored.
#[derive(Debug, Parser)]
#[command(name = "bowctl", version, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a device-mapper device with a bow target over a block device.
    Create(Create),
    /// Take a checkpoint: trim the mounted file system, freeze it, enter state 1, thaw it.
    Checkpoint(Checkpoint),
    /// Keep the new state: end the checkpoint of a live device, or of a plain device or image that
    /// no bow device is over.
    Commit(Commit),
    /// Tell what state live bow devices are in, and whether plain devices hold a checkpoint.
    Status(Status),
    /// Roll a plain device or image back to its checkpoint.
    ///
    /// The whole log is checked before anything is written. A restore may be cut off at any point
    /// and run again.
    Restore(Restore),
    /// Print the log of a plain device or image.
    Log(Log),
    /// Check the log of a plain device or image, all saved data included. Writes nothing.
    Check(Check),
}

/// `bowctl create`.
#[derive(Debug, Args)]
pub struct Create {
    /// Name of the new device, which will be /dev/mapper/NAME.
    pub name: String,
    /// The block device below.
    pub device: PathBuf,
    /// Unit of backup in bytes: 512, 1024, 2048 or 4096 [default: the target's choice].
    #[arg(long, value_parser = block_size)]
    pub block_size: Option<u32>,
    /// What happens when free space runs out [default: error].
    #[arg(long, value_enum)]
    pub on_full: Option<OnFull>,
}

/// What happens when free space runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnFull {
    /// The write fails with ENOSPC; rollback stays possible.
    Error,
    /// The checkpoint is given up, the new state stays, writes go on.
    Commit,
}

/// `bowctl checkpoint`.
#[derive(Debug, Args)]
pub struct Checkpoint {
    /// A live bow device: its name, its device node, or where it is mounted.
    pub target: PathBuf,
    /// Do not trim the file system first; only what it has discarded so far is free.
    #[arg(long)]
    pub no_trim: bool,
}

/// `bowctl commit`.
#[derive(Debug, Args)]
pub struct Commit {
    /// A live bow device (its name, device node or mount point), or a plain device or image.
    pub target: PathBuf,
    /// Say what would be done, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// `bowctl status`.
#[derive(Debug, Args)]
pub struct Status {
    /// Live bow devices, plain devices or images [default: all live bow devices].
    pub targets: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowctl restore`.
#[derive(Debug, Args)]
pub struct Restore {
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

/// `bowctl log`.
#[derive(Debug, Args)]
pub struct Log {
    /// The plain device or image.
    pub device: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `bowctl check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The plain device or image.
    pub device: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Believe a log that holds more than 64 times the device's size, or lies in more than 64
    /// pieces an entry.
    #[arg(long)]
    pub no_limit: bool,
    /// Show no progress.
    #[arg(long, short)]
    pub quiet: bool,
}

fn block_size(text: &str) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|size| bow_decisions::log::block_size_valid(*size))
        .ok_or_else(|| "not a power of two from 512 to 4096".to_owned())
}
