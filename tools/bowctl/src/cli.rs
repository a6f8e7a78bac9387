// SPDX-License-Identifier: GPL-2.0

//! The command line. The help, the manual page and the completions of shells are made from it
//! (`tools/manual`).

use clap::Parser;

use crate::commands::Command;

const EXAMPLES: &str = "\
Examples:
  An update that can be taken back:
    bowctl create data /dev/vdb1     makes /dev/mapper/data
    mount /dev/mapper/data /mnt
    bowctl checkpoint /mnt           trims, freezes, thaws
    ...                              the update
    bowctl commit data               keep it, or:

    umount /mnt; bowctl remove data
    bowctl restore /dev/vdb1         back, bit for bit

  After a power cut, on the plain device:
    bowctl status /dev/vdb1          is there a checkpoint on it?
    bowctl diff /dev/vdb1            what has changed since?
    bowctl restore --dry-run /dev/vdb1
    bowctl restore /dev/vdb1         or `bowctl commit /dev/vdb1`, or
    bowctl resume data /dev/vdb1     goes on with it

Exit codes:
  0  done
  1  something failed, an I/O error for instance
  2  the command line is wrong
  3  the device holds no log: there is no checkpoint on it
  4  the log is damaged; nothing was written
  5  the device is mounted or in use; nothing was written
  6  a restore has begun and must be finished; nothing was written
  7  the device's state does not allow this; nothing was changed
  8  a person has to decide (`bowctl boot`); nothing was written
  9  the command or a check failed: rolled back, or to be rolled back, at
     the next boot or when it is not in use any more";

const MORE: &str = "

Files:
  /sys/block/dm-N/bow/state  the state of a live device: 0, 1 or 2
  /sys/block/dm-N/bow/free   its free space in bytes

Notes:
  A device that holds an open checkpoint must not be mounted before it is
  restored or committed. The log hides the file system on it in most
  cases, but not, for instance, btrfs.

  A damaged log leaves the new state, which `bowctl commit` keeps, unless
  a restore had begun or it is the newest log block that is damaged.

  After a commit, trim the file system once: the underlying device has not
  seen the discards since the checkpoint (with no_discard_passdown, none).

  A device is used under an exclusive flock(2) of its whole disk, as udev
  and other programs expect; others may hold it for 5 seconds.

  `bowctl create` needs dmsetup(8). Without udev, it makes the device node
  as well.

  JSON has the fields that the help of each command lists. They stay as
  they are; later versions may add others.

See also:
  dmsetup(8), fstrim(8), fsfreeze(8), debugfs(8)";

/// Checkpoints of a dm-bow device: take one, keep what came after, or roll back to it.
///
/// A dm-bow device is a device-mapper device over one block device. A checkpoint needs no second
/// partition: each block is backed up in the file system's own free space before it is written for
/// the first time after it. The checkpoint ends when it is committed, which keeps the new state, or
/// when the underlying device is restored, which gives back every block that was not free at the
/// checkpoint, bit for bit.
///
/// A live bow device is named by its device-mapper name, its device node, or the place where it is
/// mounted. A plain device is the underlying block device, once no bow device is over it any more, or
/// an image file of one.
#[derive(Debug, Parser)]
#[command(
    name = "bowctl",
    version,
    after_help = EXAMPLES,
    after_long_help = [EXAMPLES, MORE].concat()
)]
pub struct Cli {
    /// Subcommand.
    #[command(subcommand)]
    pub command: Command,
}
