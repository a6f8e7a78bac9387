// SPDX-License-Identifier: GPL-2.0

//! One file for each command: its arguments, and what it does.

pub mod arm;
pub mod boot;
pub mod check;
pub mod checkpoint;
pub mod commit;
pub mod create;
pub mod diff;
pub mod history;
pub mod log;
mod log_error;
pub mod map;
pub mod remove;
pub mod restore;
pub mod resume;
pub mod rollback;
pub mod root;
pub mod run;
pub mod status;
mod subject;

use std::io::{self, Write};

use clap::Subcommand;

use crate::error::{Code, CommandError, Result};

/// The commands. What is said here is their help, and their part of the manual page.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a device-mapper device with a bow target over a block device.
    ///
    /// Makes /dev/mapper/NAME, and says in what blocks it will be backed up. Refuses a device that
    /// holds an open checkpoint, and one with a layer or file system whose signature the log would
    /// not hide: LUKS2, md, LVM, bcache, bcachefs, NILFS2, ZFS. Such layers belong below dm-bow; the
    /// message says how.
    Create(create::Args),
    /// Go on with the checkpoint that is open on a block device, after a reboot for instance.
    ///
    /// Makes /dev/mapper/NAME over the device, in state 1. A rollback still leads to the state at the
    /// checkpoint. What the file system had discarded since is not known to be free any more; `fstrim`
    /// frees it again.
    ///
    /// The log is read as the target reads it, and refused with the reason if it is damaged, of a
    /// version before 1.2, without a free map, or marked by a restore. A device that seems to have
    /// been written to without dm-bow since the checkpoint is refused unless --force is given.
    Resume(resume::Args),
    /// Take a checkpoint: trim the mounted file system, freeze it, enter state 1, thaw it.
    ///
    /// The file system is trimmed so that its free space is known. It is thawed also if something
    /// fails in between, or bowctl is killed. That is done to all that is mounted from the device or
    /// from devices above it, in any mount namespace; what cannot be reached, or is on other devices
    /// as well, is a reason to refuse. Several devices get their checkpoints under one freeze; if one
    /// refuses, none has one.
    ///
    /// Warns if much less is known to be free than the file system has free, and if ext4 is still
    /// zeroing inode tables. Uses fsfreeze(8). A file system that cannot be frozen is
    /// synced instead. Refuses the same layers as `bowctl create`, whoever made the device.
    Checkpoint(checkpoint::Args),
    /// Keep the new state: end the checkpoint of a live device, or of a plain device or image that
    /// no bow device is over.
    ///
    /// One write decides. Several are committed in the order in which they are named, after all have
    /// been looked at; those that have no checkpoint (any more) are passed over, so that the command
    /// can be run again after a power cut. Name first what the machine needs to boot.
    ///
    /// On a plain device whose log has version 1.0 (the C driver's) and entries beyond its first 512
    /// bytes, a power cut in the middle leaves a device that can be committed, but no longer restored.
    Commit(commit::Args),
    /// Remove live bow devices, in any state; an open checkpoint stays on the underlying device.
    ///
    /// Does what `dmsetup remove` does, but tries for 5 seconds if somebody has a device open for a
    /// moment, and then says who.
    Remove(remove::Args),
    /// Tell what state live bow devices are in, and whether plain devices hold a checkpoint.
    ///
    /// For a live device: its state, when its checkpoint was taken, what is left of the space that
    /// was free, what happens when that runs out, and what can be done next. The bar shows what
    /// backups have taken (#), what new data has taken or may have (=), and what is free (.).
    ///
    /// For a plain device: whether it holds a checkpoint, of when, and whether it seems to have been
    /// written to without dm-bow since. Of several plain devices, of which some hold a checkpoint, it
    /// says what is left to do.
    Status(status::Args),
    /// Roll a plain device or image back to its checkpoint.
    ///
    /// The whole log and all saved data are checked before anything is written. A restore may be cut
    /// off at any point, by a power cut as well, and is then run again. Logs of the C driver are
    /// understood.
    ///
    /// A device that seems to have been written to without dm-bow since the checkpoint, by a mount or
    /// a fsck(8) of the plain device, is refused unless --force is given: such writes are not undone,
    /// and the file system has to be checked afterwards. Not every such write can be noticed.
    ///
    /// Free space that was written to after the checkpoint is zeroed, or unmapped where the device can
    /// do that. If the log has no record of free space, or a damaged one, it stays as it is; it is said
    /// what to do then, in particular for XFS, F2FS and NILFS2, which may read it.
    Restore(restore::Args),
    /// Check the log of a plain device or image, all saved data included. Writes nothing.
    Check(check::Args),
    /// Show what has changed since the checkpoint: sectors, and files where they can be known.
    ///
    /// Lists what has been backed up. A write backs up whole blocks, and sometimes their neighbours;
    /// --compare leaves out what is the same as before. New data is often written to space that was
    /// free, of which there is no backup; it is counted, by what the file system may have written to.
    ///
    /// The files that have data in either are looked up on ext2, ext3 and ext4, by debugfs(8) of
    /// e2fsprogs, which only reads. On a mounted file system, what it has not written yet is not seen,
    /// so `sync` first. On a plain device the log hides the superblock in most cases, and a copy of it
    /// is used. Folders, inodes and other metadata are no data of a file: a file that was only renamed
    /// or removed is not listed.
    Diff(diff::Args),
    /// Show a device with a checkpoint as a picture.
    ///
    /// A letter stands for a part of the device. If there is more than one kind of sectors in it, it
    /// is the one that says more, so that a small change on a large device is seen. With colours on a
    /// terminal, unless NO_COLOR is set.
    ///
    /// Free space, and what of that was handed to the file system, is known from version 1.2 of the log
    /// on.
    Map(map::Args),
    /// Print the log of a plain device or image.
    ///
    /// The log blocks are printed newest first, and in each the entries in the order in which a
    /// restore does them. Saved data is not read. Also works on a device that is in use; what is
    /// printed may then be out of date.
    Log(log::Args),
    /// Prepare dm-bow under the root file system, take it away, tell how it is.
    ///
    /// `enable` looks whether dm-bow can be under this root file system, and names each thing that is in
    /// the way. Then it has the initramfs lay a bow device over the root partition at each boot, enables
    /// the units that check and keep an updated system, and adds an entry to the menu of GRUB that rolls
    /// back. A kernel without the module boots as before.
    ///
    /// The other actions are for units, udev, apt and the initramfs: see bow-root(7).
    Root(root::Args),
    /// Run a command that updates a file system, and keep the result or roll it back.
    ///
    /// Takes a checkpoint, runs the command, and then the check if there is one.
    ///
    /// For the root file system: if both succeed, the next boot tries the new state and keeps it when it
    /// is healthy; otherwise, and if the power fails meanwhile, the next boot goes back. Reboots by
    /// itself unless told otherwise. A command of apt that has nothing to change takes no checkpoint.
    ///
    /// For another file system: commits at once, or unmounts it, rolls it back and mounts it again. If it
    /// is in use then, the log says that it is to be rolled back.
    Run(run::Args),
    /// Have the next boot try the new state of the root file system.
    ///
    /// Looks first whether it could come up: whether all packages are whole, and each initramfs in /boot
    /// has what it takes to decide about the checkpoint. `bowctl run` does this by itself.
    Arm(arm::Args),
    /// Go back to the checkpoint: of the root file system at the next boot, of another at once.
    ///
    /// Another file system is unmounted, rolled back and mounted again as it was.
    Rollback(rollback::Args),
    /// Show the updates that were made with `bowctl run`, and how they ended.
    History(history::Args),
    /// Decide about the root partition before it is mounted, and carry that out. (For an initramfs.)
    ///
    /// Without a log, lays a bow device over the partition. With an open checkpoint, does what the log
    /// says: tries the new state, or rolls back and reboots. A restore that was cut off is finished. What
    /// is not said is asked at the console. Never keeps a new state that nobody has asked to be kept.
    ///
    /// bow=off, bow=restore and bow=commit on the kernel's command line have precedence. The name of the
    /// device that is to be mounted is written to /run/bow/root; the file is absent if that is the
    /// partition. bow-root(7) has all cases.
    Boot(boot::Args),
}

/// Runs a command.
///
/// # Errors
///
/// What the user is to be told.
pub fn run(command: &Command) -> Result {
    match command {
        Command::Create(args) => create::run(args),
        Command::Resume(args) => resume::run(args),
        Command::Checkpoint(args) => checkpoint::run(args),
        Command::Commit(args) => commit::run(args),
        Command::Remove(args) => remove::run(args),
        Command::Status(args) => status::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Map(args) => map::run(args),
        Command::Log(args) => log::run(args),
        Command::Check(args) => check::run(args),
        Command::Root(args) => root::run(args),
        Command::Run(args) => run::run(args),
        Command::Arm(args) => arm::run(args),
        Command::Rollback(args) => rollback::run(args),
        Command::History(args) => history::run(args),
        Command::Boot(args) => boot::run(args),
    }
}

/// Prints to standard output. That nobody reads any further is no error.
fn print(text: &str) -> Result {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CommandError::io("standard output", &error))
        }
        _ => Ok(()),
    }
}

/// Prints after a decision, which stands whether somebody can read of it or not.
pub(crate) fn tell(text: &str) {
    let _ = print(text);
}

fn print_json(value: &impl serde::Serialize) -> Result {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::new(Code::Failed, error.to_string()))?;

    text.push('\n');
    print(&text)
}
