// SPDX-License-Identifier: GPL-2.0

//! `bowctl checkpoint`: trims, freezes, enters state 1, thaws.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use bow_decisions::state::State;
use bow_fitrim::fitrim;
use indicatif::HumanBytes;

use super::{print, tell};
use crate::device::{Access, FileDevice};
use crate::error::{complain, Code, CommandError, Result};
use crate::ext;
use crate::freeze::Frozen;
use crate::live::Live;
use crate::signature;
use crate::stack::{self, FileSystem};

/// `bowctl checkpoint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow devices, each by its name, its device node, or where it is mounted. Several get
    /// their checkpoints at one moment.
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<PathBuf>,
    /// Do not trim the file system first; only what it has discarded so far is free.
    #[arg(long)]
    pub no_trim: bool,
    /// Also over a layer or file system that does not belong on a bow device.
    #[arg(long)]
    pub force: bool,
    /// The next boot goes back to it, if nothing else is said until then: so a power cut comes at no wrong moment.
    #[arg(long)]
    pub restore_at_boot: bool,
}

pub(crate) fn run(args: &Args) -> Result {
    let mut seen = HashSet::new();
    let mut lives = Vec::new();

    for target in &args.targets {
        let live = Live::get(target)?;

        make_ready(&live)?;
        if !args.force {
            let node = Path::new("/dev").join(&live.node);

            signature::refuse(&FileDevice::open(&node, Access::Look)?, &node)?;
        }
        if seen.insert(live.number.clone()) {
            lives.push(live);
        }
    }
    let numbers: Vec<_> = lives.iter().map(|live| live.number.clone()).collect();
    let file_systems = stack::file_systems(&numbers)?;

    for live in &lives {
        let above = stack::above([live.number.clone()]);
        let on = |system: &FileSystem| system.devices.iter().any(|number| above.contains(number));

        if !file_systems.iter().any(on) {
            complain!(
                "{} is not mounted: only what has been discarded so far is free",
                live.name
            );
        }
    }
    for system in &file_systems {
        if !args.no_trim {
            trim(system)?;
        }
        warn_of_lazy_init(system);
    }
    warn_of_little(&lives, &file_systems, args.no_trim)?;

    // Not of a target before 1.2, which takes that in state 1 only.
    for live in &lives {
        let _ = live.message(&[
            "boot",
            if args.restore_at_boot {
                "restore"
            } else {
                "hold"
            },
        ]);
    }
    enter(&lives, &file_systems)?;
    for live in &lives {
        tell(&format!(
            "{}: checkpoint taken, {} bytes free\n",
            live.name,
            live.free()?
        ));
    }
    Ok(())
}

/// Brings a device to state 0, unless a checkpoint is open on it.
fn make_ready(live: &Live) -> Result {
    let name = &live.name;

    match live.state()? {
        State::Tracking => Ok(()),
        State::Checkpoint => Err(CommandError::new(
            Code::State,
            format!("{name}: a checkpoint is open already"),
        )
        .advise(format!(
            "`bowctl commit {name}` keeps what came after it; to go back, remove the device \
             (`bowctl remove {name}`) and run `bowctl restore` on the one below."
        ))),
        State::Committed => live
            .set_state(State::Tracking)
            .map_err(|error| CommandError::io(name, &error)),
    }
}

/// Trims all free space of a file system, whatever it has trimmed before, and leaves it such that
/// the next trim does so again.
fn trim(system: &FileSystem) -> Result {
    let forget = || {
        system
            .devices
            .iter()
            .for_each(|number| ext::forget_trims(number))
    };
    let shown = system.mount.shown();

    forget();
    // Not by `fstrim`, which would have to run where its path is valid: in a container, that would be a program of the
    // container's.
    let bytes = fitrim(&system.root).map_err(|error| {
        CommandError::io(format_args!("trimming {shown}"), &error.into()).advise(
            "A disk that announces discards and rejects them needs a device that keeps them from it: \
             `no_discard_passdown`, or DISCARDS=keep in /etc/bow.conf for one that `bowctl boot` makes. `--no-trim` \
             takes the checkpoint with what is known to be free.",
        )
    })?;
    forget();
    print(&format!("trimmed {shown}: {bytes} bytes\n"))
}

/// Says what ext4's background zeroing of inode tables will cost.
fn warn_of_lazy_init(system: &FileSystem) {
    let mount = &system.mount;
    let off = |option: &str| option == "ro" || option == "noinit_itable";

    if !ext::is(&mount.kind) || mount.options.split(',').any(off) {
        return;
    }
    let bytes = ext::lazy_bytes(&mount.number);
    if bytes > 0 {
        complain!(
            "{}: ext4 has not zeroed all its inode tables yet and goes on with it in the \
             background: up to {} of free space will be taken for that, and again after each \
             rollback. Wait until it is done, or remount it with the option noinit_itable for now.",
            mount.shown(),
            HumanBytes(bytes)
        );
    }
}

/// Says so if far less is known to be free than the file systems have free.
fn warn_of_little(lives: &[Live], file_systems: &[FileSystem], no_trim: bool) -> Result {
    let mut known: u64 = 0;
    for live in lives {
        known = known.saturating_add(live.free()?);
    }
    let claimed: u64 = file_systems.iter().map(FileSystem::free).sum();

    if known < claimed / 2 {
        let reason = if no_trim {
            "The file system was not trimmed (`--no-trim`)."
        } else {
            "Either a layer in between does not pass discards on (LUKS does with `cryptsetup \
             --allow-discards`), or the file system does not repeat what it has trimmed since it \
             was mounted (btrfs, F2FS): unmount it, mount it again, and take the checkpoint then."
        };

        complain!(
            "only {} are known to be free, of {} that are free by the file system's own count; \
             no more can be backed up. {reason}",
            HumanBytes(known),
            HumanBytes(claimed)
        );
    }
    Ok(())
}

/// Enters state 1 on all devices while all file systems are frozen.
fn enter(lives: &[Live], file_systems: &[FileSystem]) -> Result {
    let mut frozen = Vec::new();
    for system in file_systems {
        frozen.extend(Frozen::new(&system.root, &system.mount.shown())?);
    }

    // Nothing may return between here and the thaw.
    let entered = enter_all(lives);
    let thawed: Vec<_> = frozen.into_iter().map(Frozen::thaw).collect();

    entered?;
    thawed.into_iter().collect()
}

/// Enters state 1 on all devices, or commits the checkpoints of those that did. While all is
/// frozen, nothing has been written since.
fn enter_all(lives: &[Live]) -> Result {
    for (done, live) in lives.iter().enumerate() {
        let Err(error) = live.set_state(State::Checkpoint) else {
            continue;
        };
        let mut advice = "The kernel's log says why (`dmesg | tail`).".to_owned();
        // It may be there all the same, if the write of its log failed.
        let failed = matches!(live.state(), Ok(State::Checkpoint)).then_some(live);

        for other in lives[..done].iter().chain(failed) {
            let undone = other
                .set_state(State::Committed)
                .and_then(|()| other.set_state(State::Tracking));

            advice.push_str(&match undone {
                Ok(()) => format!(" That of {} was committed again.", other.name),
                Err(error) => format!(
                    " That of {0} could not be committed again ({error}): `bowctl commit {0}`.",
                    other.name
                ),
            });
        }
        return Err(
            CommandError::io(format_args!("{}: taking the checkpoint", live.name), &error)
                .advise(advice),
        );
    }
    Ok(())
}
