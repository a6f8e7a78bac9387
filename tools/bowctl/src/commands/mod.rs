// SPDX-License-Identifier: GPL-2.0

//! One file for each command: its arguments, and what it does.

pub mod check;
pub mod checkpoint;
pub mod commit;
pub mod create;
pub mod log;
mod log_error;
pub mod remove;
pub mod restore;
pub mod status;

use std::io::{self, Write};

use clap::Subcommand;

use crate::error::{Code, CommandError, Result};

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a device-mapper device with a bow target over a block device.
    Create(create::Args),
    /// Take a checkpoint: trim the mounted file system, freeze it, enter state 1, thaw it.
    Checkpoint(checkpoint::Args),
    /// Keep the new state: end the checkpoint of a live device, or of a plain device or image that
    /// no bow device is over.
    Commit(commit::Args),
    /// Remove live bow devices, in any state; an open checkpoint stays on the underlying device.
    Remove(remove::Args),
    /// Tell what state live bow devices are in, and whether plain devices hold a checkpoint.
    Status(status::Args),
    /// Roll a plain device or image back to its checkpoint.
    ///
    /// The whole log is checked before anything is written. A restore may be cut off at any point
    /// and run again.
    Restore(restore::Args),
    /// Print the log of a plain device or image.
    Log(log::Args),
    /// Check the log of a plain device or image, all saved data included. Writes nothing.
    Check(check::Args),
}

/// Runs a command.
///
/// # Errors
///
/// What the user is to be told.
pub fn run(command: &Command) -> Result {
    match command {
        Command::Create(args) => create::run(args),
        Command::Checkpoint(args) => checkpoint::run(args),
        Command::Commit(args) => commit::run(args),
        Command::Remove(args) => remove::run(args),
        Command::Status(args) => status::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Log(args) => log::run(args),
        Command::Check(args) => check::run(args),
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

fn print_json(value: &impl serde::Serialize) -> Result {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| CommandError::new(Code::Failed, error.to_string()))?;

    text.push('\n');
    print(&text)
}
