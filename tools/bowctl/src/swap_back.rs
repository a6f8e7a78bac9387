// SPDX-License-Identifier: GPL-2.0

//! Rolling a live device back while the machine runs: what is mounted from it is unmounted, the device is removed,
//! the underlying one restored, and all is made and mounted again as it was.

use std::path::{Path, PathBuf};

use bow_decisions::state::State;

use crate::commands::restore;
use crate::error::{Code, CommandError, Result};
use crate::live::{self, Live};
use crate::mount::{self, Mount};
use crate::root::programs;
use crate::users;

/// Rolls a device back. Returns a sentence on what was done.
///
/// # Errors
///
/// [`Code::RolledBack`] if it is in use: the log then says that it is to be rolled back, which `bowctl boot` does. Others
/// say what failed, and how far it came.
pub fn now(live: &Live) -> Result<String> {
    let name = &live.name;

    if live.state()? != State::Checkpoint {
        return Err(CommandError::new(
            Code::NoLog,
            format!("{name}: no checkpoint is open: there is nothing to go back to"),
        ));
    }
    let table = live.table().ok_or_else(|| {
        CommandError::new(
            Code::Failed,
            format!("{name}: `dmsetup table` says nothing"),
        )
    })?;
    let below = live.underlying().ok_or_else(|| {
        CommandError::new(
            Code::Failed,
            format!("{name}: its underlying device has no node in /dev"),
        )
    })?;
    let mounts: Vec<_> = mount::all()
        .into_iter()
        .filter(|mount| mount.number == live.number || is_source(mount, live))
        .collect();

    // Whatever happens from here on, the next start goes back.
    live.message(&["boot", "restore"])?;
    unmount(&mounts).map_err(|failure| later(live, &below, &failure.message))?;
    if let Err(failure) = live.remove() {
        mount_again(&mounts)?;
        return Err(later(live, &below, &failure.message));
    }
    restore::run(&restore::Args {
        device: below,
        dry_run: false,
        no_limit: false,
        force: false,
        quiet: false,
        hides: false,
    })?;
    live::create(name, &first_table(&table))?;
    mount_again(&mounts)?;
    Ok(match mounts.as_slice() {
        [] => format!("{name}: rolled back"),
        [first, ..] => format!(
            "{name}: rolled back, and mounted again on {}",
            first.shown()
        ),
    })
}

fn is_source(mount: &Mount, live: &Live) -> bool {
    mount.source_number().as_deref() == Some(&live.number)
}

/// Returns the error for a device that is in use.
fn later(live: &Live, below: &Path, why: &str) -> CommandError {
    let name = &live.name;

    CommandError::new(
        Code::RolledBack,
        format!("{name}: it is not rolled back yet, since it is in use: {why}"),
    )
    .advise(format!(
        "When it is not in use any more, `bowctl rollback {name}`. After a reboot, or where it was removed, `bowctl \
         boot --name {name} {0}` rolls it back and makes it again.",
        below.display()
    ))
}

/// Unmounts all, the last one first, or none.
fn unmount(mounts: &[Mount]) -> Result {
    for (index, mount) in mounts.iter().enumerate().rev() {
        let result = match mount.process {
            None => programs::output("umount", &[&mount.point.display().to_string()]),
            Some(process) => Err(CommandError::new(
                Code::InUse,
                format!(
                    "it is mounted in the namespace of {}",
                    users::process(&process.to_string())
                ),
            )),
        };

        if let Err(failure) = result {
            mount_again(&mounts[index + 1..])?;
            return Err(failure);
        }
    }
    Ok(())
}

/// Mounts what was unmounted, as it was.
fn mount_again(mounts: &[Mount]) -> Result {
    for mount in mounts {
        let options = format!("{},{}", mount.options, mount.flags);
        let source: PathBuf = mount.source.clone();

        programs::output(
            "mount",
            &[
                "-t",
                &mount.kind,
                "-o",
                &options,
                &source.display().to_string(),
                &mount.point.display().to_string(),
            ],
        )
        .map_err(|failure| failure.advise("Mount it by hand."))?;
    }
    Ok(())
}

/// Returns a table line without the argument that goes on with a checkpoint.
fn first_table(table: &str) -> String {
    let words: Vec<_> = table.split_whitespace().collect();
    let (front, arguments) = words.split_at(words.len().min(4));
    let arguments: Vec<_> = arguments
        .iter()
        .skip(1)
        .filter(|word| !word.starts_with("resume"))
        .copied()
        .collect();

    if arguments.is_empty() {
        return front.join(" ");
    }
    format!(
        "{} {} {}",
        front.join(" "),
        arguments.len(),
        arguments.join(" ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_without_resume() {
        assert_eq!(first_table("0 8 bow 8:1"), "0 8 bow 8:1");
        assert_eq!(first_table("0 8 bow 8:1 1 resume"), "0 8 bow 8:1");
        assert_eq!(
            first_table("0 8 bow 8:1 3 block_size:4096 resume:0a on_full:wait"),
            "0 8 bow 8:1 2 block_size:4096 on_full:wait"
        );
    }
}
