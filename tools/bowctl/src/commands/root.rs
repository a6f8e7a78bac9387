// SPDX-License-Identifier: GPL-2.0

//! `bowctl root`: dm-bow under the root file system.

pub(super) mod apt;
mod services;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use bow_decisions::state::State;
use serde::Serialize;

use super::{print, print_json};
use crate::error::{complain, Code, CommandError, Result};
use crate::live::Live;
use crate::report::state_name;
use crate::root::config::{self, Root};
use crate::root::layout::{Facts, Obstacle, Weight};
use crate::root::rescue::{self, Rescue};
use crate::root::update::{self, Records};
use crate::root::{initramfs, marks, next_boot, programs, units, NAME};
use crate::words::bytes;

const JSON: &str = "\
JSON:
  Of `bowctl root status`:
    enabled     by `bowctl root enable`
    partition   PARTUUID of the root partition; null if there is none
    live        the root file system is on a bow device
    state       \"tracking\", \"checkpoint\", \"committed\"; null
    on_trial    this boot tries a new state
    next_boot   what is done at the next boot; null if nothing
    free_bytes  free for backups; null
    update      the update under way: begun, command, kernel, by_apt,
                is_new, database (of dpkg, as it was then); null
    obstacles   what is in the way
  An obstacle has
    name        \"file_system\", \"layer\", \"partition\", \"elsewhere\",
                \"boot\", \"metadata_csum\", \"journal\", \"initramfs\",
                \"module\", \"bios\", \"grub_cloud\", \"swap_file\", \"panic\",
                \"units\"
    weight      \"refused\", \"experimental\", \"note\"
    reason      a sentence";

/// `bowctl root`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// The action.
    pub action: Action,
    /// For `probe`: a block device. For `apt-before`: the packages.
    #[arg(value_name = "ARGUMENT")]
    pub arguments: Vec<String>,
    /// `enable`: also what is experimental. `disable`: also if something fails.
    #[arg(long)]
    pub force: bool,
    /// `status`: print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Actions of `bowctl root`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Action {
    /// Prepare dm-bow under the root file system from the next boot on
    Enable,
    /// Take it away from the next boot on
    Disable,
    /// Tell whether it is enabled, what is in the way, and what the next boot will do
    Status,
    /// Run the checks of a boot on trial (bow-health.service)
    Health,
    /// Keep the new state after the checks, unless something else was decided in this boot (bow-commit.service)
    Commit,
    /// Watch over the free space of the open checkpoint (bow-space.service)
    Watch,
    /// Write an update that was rolled back to the history (bow-settle.service)
    Settle,
    /// Reboot if a boot on trial does not end in time (initramfs)
    Guard,
    /// Before the machine hibernates: GRUB does not count meanwhile (system-sleep)
    SleepBefore,
    /// After it has woken up (system-sleep)
    SleepAfter,
    /// Succeed if a block device holds the log of a checkpoint (udev)
    Probe,
    /// Before dpkg runs (apt)
    AptBefore,
    /// After dpkg has run (apt)
    AptAfter,
}

/// Facts about dm-bow under the root file system.
#[derive(Debug, Serialize)]
struct RootStatus {
    enabled: bool,
    partition: Option<String>,
    live: bool,
    state: Option<&'static str>,
    on_trial: bool,
    next_boot: Option<String>,
    free_bytes: Option<u64>,
    update: Option<update::Pending>,
    obstacles: Vec<Obstacle>,
}

pub(super) fn run(args: &Args) -> Result {
    let takes_arguments = matches!(args.action, Action::Probe | Action::AptBefore);

    if !takes_arguments && !args.arguments.is_empty() {
        return Err(CommandError::new(
            Code::Usage,
            format!("not understood: {}", args.arguments.join(" ")),
        ));
    }
    match args.action {
        Action::Enable => enable(args.force),
        Action::Disable => disable(args.force),
        Action::Status => status(args.json),
        Action::Health => services::check_health(),
        Action::Commit => services::commit(),
        Action::Watch => services::watch(),
        Action::Settle => services::settle(),
        Action::Guard => services::guard(),
        Action::SleepBefore => services::before_sleep(),
        Action::SleepAfter => services::after_sleep(),
        Action::Probe => services::probe_device(&args.arguments),
        Action::AptBefore => apt::before(&args.arguments),
        Action::AptAfter => apt::after(),
    }
}

fn enable(force: bool) -> Result {
    no_checkpoint()?;
    let facts = Facts::find().ok_or_else(|| {
        CommandError::new(Code::Failed, "the root file system is not among the mounts")
    })?;
    let obstacles = facts.obstacles();
    let in_the_way = obstacles.iter().filter(|obstacle| match obstacle.weight {
        Weight::Refused => true,
        Weight::Experimental => !force,
        Weight::Note => false,
    });
    let reasons: Vec<_> = in_the_way
        .map(|obstacle| format!("\n- {}", obstacle.reason))
        .collect();

    if !reasons.is_empty() {
        let failure = CommandError::new(
            Code::State,
            format!(
                "dm-bow cannot be under this root file system:{}",
                reasons.concat()
            ),
        );
        let forced = obstacles
            .iter()
            .all(|obstacle| obstacle.weight != Weight::Refused);

        return Err(failure.advise(if forced {
            "Nothing was changed. `--force` goes on in spite of what is experimental."
        } else {
            "Nothing was changed."
        }));
    }
    let Some(partition) = facts.partition else {
        return Err(CommandError::new(
            Code::Failed,
            "the partition has no PARTUUID",
        ));
    };

    let root = Root {
        partition,
        kind: facts.kind,
        rescue: Rescue::find().is_some(),
        own_boot: false,
    };
    let former = fs::read(config::ROOT_PATH).ok();
    root.write()?;
    if let Err(failure) = prepare(&root) {
        // As it was: half of it would be worse than either.
        return Err(match former {
            Some(text) => {
                let _ = fs::write(config::ROOT_PATH, text);
                failure.advise("dm-bow is enabled as before.")
            }
            None => {
                if let Err(failure) = take_away() {
                    complain!("bowctl: {failure}");
                }
                remove_rescue(&root);
                failure.advise("dm-bow is not enabled.")
            }
        });
    }
    print(
        "dm-bow is enabled: from the next boot on, the root file system is on a bow device, and an update can be \
         rolled back. Reboot once, then `bowctl run -- COMMAND`.\n",
    )
}

/// Has the initramfs, systemd and GRUB know.
fn prepare(root: &Root) -> Result {
    initramfs::rebuild()?;
    initramfs::check(Path::new("/boot"))?;
    if let Err(failure) = rescue::write(root) {
        // A copy that is not there must not be counted on.
        complain!("bowctl: {failure}");
        Root {
            rescue: false,
            ..root.clone()
        }
        .write()?;
        initramfs::rebuild()?;
    }
    if Root::read().is_some_and(|root| !root.rescue) {
        print(
            "There is no copy of the kernel on an EFI system partition: if power fails in the middle of a rollback, GRUB \
             may not find its configuration.\n",
        )?;
    }
    units::set("enable")?;
    update_grub()
}

fn update_grub() -> Result {
    if programs::has("update-grub") {
        return programs::show("update-grub", &[]);
    }
    if programs::has("grub-mkconfig") {
        return programs::show("grub-mkconfig", &["-o", "/boot/grub/grub.cfg"]);
    }
    print("There is no GRUB: the boot menu has no entry to roll back, and only boots that reach the initramfs are counted.\n")
}

/// Refuses if a checkpoint is open, on which the next boot decides.
fn no_checkpoint() -> Result {
    if let Some(live) = crate::root::live() {
        if live.state()? == State::Checkpoint {
            return Err(CommandError::new(
                Code::State,
                format!("{NAME}: a checkpoint is open. Nothing was changed."),
            )
            .advise(
                "End it first: `bowctl commit bow-root` keeps the new state, `bowctl rollback --reboot` goes back.",
            ));
        }
    }
    Ok(())
}

/// Has the initramfs, systemd and GRUB know no more.
fn take_away() -> Result {
    match fs::remove_file(config::ROOT_PATH) {
        // The power failed in an earlier `disable`.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        result => result.map_err(|error| CommandError::io(config::ROOT_PATH, &error))?,
    }
    initramfs::rebuild()?;
    units::set("disable")?;
    update_grub()
}

/// Removes the copy of the kernel from the EFI system partition, and GRUB's way to it.
fn remove_rescue(root: &Root) {
    match Rescue::find() {
        Some(rescue) => {
            if let Err(failure) = rescue.remove() {
                complain!("bowctl: {failure}");
            }
        }
        None if root.rescue => complain!(
            "bowctl: the EFI system partition is not mounted: EFI/bow stays there, and the lines of EFI/*/grub.cfg that \
             end in `# dm-bow`, by which GRUB boots from EFI/bow when it finds no configuration elsewhere"
        ),
        None => {}
    }
}

fn disable(force: bool) -> Result {
    no_checkpoint()?;
    let Some(root) = Root::read() else {
        if !units::is_any_enabled() {
            return print("dm-bow is not enabled for the root file system.\n");
        }
        take_away()?;
        if let Some(rescue) = Rescue::find() {
            rescue.remove()?;
        }
        return print("dm-bow is disabled: what an earlier `disable` had left is taken away.\n");
    };
    let text = fs::read_to_string(config::ROOT_PATH)
        .map_err(|error| CommandError::io(config::ROOT_PATH, &error))?;

    if let Err(failure) = take_away() {
        if !force {
            // As it was: half of it would be worse than either.
            let again = fs::write(config::ROOT_PATH, text)
                .map_err(|error| CommandError::io(config::ROOT_PATH, &error))
                .and_then(|()| prepare(&root));

            return Err(failure.advise(match again {
                Ok(()) => "dm-bow is still enabled. `--force` goes on in spite of this.".to_owned(),
                Err(failure) => format!(
                    "dm-bow is enabled in part only, since {}. `bowctl root enable` completes it, `bowctl root disable \
                     --force` takes the rest away.",
                    failure.message
                ),
            }));
        }
        complain!("bowctl: {failure}");
    }
    remove_rescue(&root);
    print("dm-bow is disabled: from the next boot on, the root file system is on its partition.\n")
}

fn status(json: bool) -> Result {
    let live = crate::root::live();
    let state = live.as_ref().map(Live::state).transpose()?;
    let root = Root::read();
    let boot = live
        .as_ref()
        .filter(|_| state == Some(State::Checkpoint))
        .and_then(next_boot::boot);
    let facts = Facts::find();
    let has_units = root.as_ref().is_some_and(|root| !root.own_boot);
    let found = RootStatus {
        enabled: root.is_some(),
        partition: root
            .map(|root| root.partition)
            .or_else(|| facts.as_ref()?.partition.clone()),
        live: live.is_some(),
        state: state.map(state_name),
        on_trial: marks::is_try(),
        next_boot: boot.map(next_boot::in_words),
        free_bytes: live.as_ref().map(Live::free).transpose()?,
        update: Records::default().pending(),
        obstacles: facts
            .map_or(Vec::new(), |facts| facts.obstacles())
            .into_iter()
            .chain(live.as_ref().and_then(|_| no_panic()))
            .chain(has_units.then(units::obstacle).flatten())
            .collect(),
    };

    if json {
        return print_json(&found);
    }
    print(&status_text(&found))
}

/// Tells if the kernel that runs would not boot again after a panic.
fn no_panic() -> Option<Obstacle> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;

    (!line.split_whitespace().any(|word| word.starts_with("panic="))).then(|| Obstacle {
        name: "panic",
        weight: Weight::Note,
        reason: "The kernel was booted without `panic=30`: one that panics waits for a person, and is not rolled back by \
                 itself. Something that GRUB reads after /etc/default/grub.d/zz-bow.cfg sets the command line."
            .to_owned(),
    })
}

fn status_text(status: &RootStatus) -> String {
    let mut text = match (status.enabled, status.live) {
        (true, true) => "dm-bow is under the root file system.\n".to_owned(),
        (true, false) => "dm-bow is enabled, but the root file system is on its partition: reboot; if that was done, there is \
                          no module for this kernel, or the initramfs is an old one.\n"
            .to_owned(),
        (false, true) => "dm-bow is disabled; it is under the root file system until the next boot.\n".to_owned(),
        (false, false) => "dm-bow is not enabled for the root file system: `bowctl root enable`.\n".to_owned(),
    };

    if let Some(state) = status.state {
        text.push_str(&format!("state: {state}"));
        if let Some(free) = status.free_bytes {
            text.push_str(&format!(", {} known to be free", bytes(free)));
        }
        text.push('\n');
    }
    if status.on_trial {
        text.push_str("This boot tries the new state.\n");
    }
    if let Some(update) = &status.update {
        text.push_str(&format!(
            "update under way, of {}: {}\n",
            crate::report::utc(update.begun),
            update.command.join(" ")
        ));
    }
    if let Some(next) = &status.next_boot {
        text.push_str(&format!("at the next boot: {next}\n"));
    }
    for obstacle in &status.obstacles {
        let weight = match obstacle.weight {
            Weight::Refused => "in the way",
            Weight::Experimental => "experimental",
            Weight::Note => "note",
        };

        text.push_str(&format!("{weight}: {}\n", obstacle.reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_in_words() {
        let status = RootStatus {
            enabled: true,
            partition: None,
            live: true,
            state: Some("checkpoint"),
            on_trial: true,
            next_boot: Some("the new state is tried, 2 times at most".to_owned()),
            free_bytes: Some(1 << 30),
            update: None,
            obstacles: vec![Obstacle {
                name: "bios",
                weight: Weight::Experimental,
                reason: "BIOS.".to_owned(),
            }],
        };
        let text = status_text(&status);

        for words in [
            "under the root file system.",
            "state: checkpoint, 1.00 GiB",
            "2 times at most",
            "experimental: BIOS.",
        ] {
            assert!(text.contains(words), "{text}");
        }
    }
}
