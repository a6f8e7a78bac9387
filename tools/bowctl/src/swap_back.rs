// SPDX-License-Identifier: GPL-2.0

//! Rolling a live device back while the machine runs: what is mounted from it is unmounted, the device is removed,
//! the underlying one restored, and all is made and mounted again as it was.

use std::path::Path;

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
    // Other namespaces may have them too. Those that are meant to follow this one do.
    let mounts: Vec<_> = mount::of(&live.number)
        .filter(|mount| mount.process.is_none())
        .collect();

    // Whatever happens from here on, the next start goes back.
    live.message(&["boot", "restore"])?;
    unmount(&mounts).map_err(|failure| later(live, &below, &failure.message))?;
    if let Err(failure) = remove(live) {
        mount_again(&mounts, &mounts)?;
        return Err(later(live, &below, &failure.message));
    }
    restore::run(&restore::Args {
        device: below,
        dry_run: false,
        no_limit: false,
        force: false,
        quiet: false,
        hides: false,
        by_itself: false,
    })?;
    live::create(name, &first_table(&table))?;
    mount_again(&mounts, &mounts)?;
    Ok(match mounts.as_slice() {
        [] => format!("{name}: rolled back"),
        [first, ..] => format!(
            "{name}: rolled back, and mounted again on {}",
            first.shown()
        ),
    })
}

/// Removes the device, unless something else still has it mounted.
fn remove(live: &Live) -> Result {
    match mount::of(&live.number).next() {
        None => live.remove(),
        Some(mount) => Err(in_use(match mount.process {
            None => format!("it is mounted again on {}", mount.shown()),
            Some(process) => format!(
                "it is mounted in the namespace of {}",
                users::process(&process.to_string())
            ),
        })),
    }
}

fn in_use(why: String) -> CommandError {
    CommandError::new(Code::InUse, why)
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
        let point = mount.point.display();
        let result = if !mount.is_on_top() {
            Err(in_use(format!("another mount is over the one on {point}")))
        } else if !mount.is_whole() && whole(mounts, mount).is_none() {
            Err(in_use(format!("only a part of it is mounted, on {point}")))
        } else {
            programs::output("umount", &[&point.to_string()])
        };

        if let Err(failure) = result {
            mount_again(&mounts[index + 1..], mounts)?;
            return Err(failure);
        }
    }
    Ok(())
}

/// Returns one of `mounts` that has all of what `part` has a directory of.
fn whole<'a>(mounts: &'a [Mount], part: &Mount) -> Option<&'a Mount> {
    mounts.iter().find(|mount| {
        mount.number == part.number && mount.is_whole() && part.root.starts_with(&mount.root)
    })
}

/// Mounts `gone`, those of `mounts` that were unmounted, as they were.
fn mount_again(gone: &[Mount], mounts: &[Mount]) -> Result {
    let (wholes, parts): (Vec<_>, Vec<_>) = gone.iter().partition(|mount| mount.is_whole());

    for mount in wholes.into_iter().chain(parts) {
        let (kind, options, source) = match whole(mounts, mount) {
            Some(whole) if !mount.is_whole() => (
                vec!["--bind"],
                mount.flags.clone(),
                whole
                    .point
                    .join(mount.root.strip_prefix(&whole.root).unwrap_or(&mount.root)),
            ),
            _ => (
                vec!["-t", &mount.kind],
                // A subvolume of btrfs is named by its number too, in which nothing is escaped.
                mount
                    .options
                    .split(',')
                    .filter(|option| !option.starts_with("subvol="))
                    .chain([mount.flags.as_str()])
                    .collect::<Vec<_>>()
                    .join(","),
                mount.source.clone(),
            ),
        };
        let (source, point) = (
            source.display().to_string(),
            mount.point.display().to_string(),
        );
        let args: Vec<_> = kind
            .into_iter()
            .chain(["-o", &options, &source, &point])
            .collect();

        programs::output("mount", &args).map_err(|failure| failure.advise("Mount it by hand."))?;
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
