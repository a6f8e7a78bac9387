// SPDX-License-Identifier: GPL-2.0

//! The command line.

use clap::Parser;

use crate::commands::Command;

const EXAMPLES: &str = "\
Examples:
  An update that can be taken back:
    bowctl create data /dev/vdb1        /dev/mapper/data is /dev/vdb1 through bow
    mount /dev/mapper/data /mnt
    bowctl checkpoint /mnt              trims, freezes, takes the checkpoint, thaws
    ...                                 the update
    bowctl commit data                  keep it, or:

    umount /mnt; bowctl remove data
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
    /// Subcommand.
    #[command(subcommand)]
    pub command: Command,
}
