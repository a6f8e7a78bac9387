// SPDX-License-Identifier: GPL-2.0

//! `bowctl root`: dm-bow under the root file system, and what units, udev, apt and the initramfs call.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bow_decisions::log::{probe, SECTOR_SIZE};
use bow_decisions::state::State;
use rustix::fs::{accessat, Access, AtFlags};
use serde::Serialize;

use super::{print, print_json};
use crate::error::{Code, CommandError, Result};
use crate::live::Live;
use crate::report::state_name;
use crate::root::config::{self, Config, LowSpace, Root};
use crate::root::layout::{Facts, Obstacle, Weight};
use crate::root::rescue::Rescue;
use crate::root::update::{self, Failure, Outcome, Records};
use crate::root::{begin, health, initramfs, marks, programs, NAME};
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
                is_new; null
    obstacles   what is in the way
  An obstacle has
    name        \"file_system\", \"layer\", \"partition\", \"elsewhere\",
                \"boot\", \"metadata_csum\", \"journal\", \"initramfs\",
                \"module\", \"bios\", \"swap_file\"
    weight      \"refused\", \"experimental\", \"note\"
    reason      a sentence";

/// Units that are enabled with dm-bow.
const UNITS: [&str; 6] = [
    "bow-health.service",
    "bow-commit.service",
    "bow-deadline.timer",
    "bow-rollback.service",
    "bow-space.service",
    "bow-settle.service",
];

/// Packages that write to the places of a boot loader, by the beginnings of their names.
const BOOT_LOADERS: [&str; 6] = [
    "grub-efi",
    "grub-pc",
    "grub2-common",
    "shim-",
    "systemd-boot",
    "refind",
];

/// Variable by which `bowctl run` tells the hook of apt that the checkpoint is its own.
pub(super) const RUN_VARIABLE: &str = "BOW_RUN";

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
    /// Watch over the free space of the open checkpoint (bow-space.service)
    Watch,
    /// Write an update that was rolled back to the history (bow-settle.service)
    Settle,
    /// Reboot if a boot on trial does not end in time (initramfs)
    Guard,
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
        Action::Health => check_health(),
        Action::Watch => watch(),
        Action::Settle => settle(),
        Action::Guard => guard(),
        Action::Probe => probe_device(&args.arguments),
        Action::AptBefore => apt_before(&args.arguments),
        Action::AptAfter => apt_after(),
    }
}

fn enable(force: bool) -> Result {
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
    };
    root.write()?;
    let result = prepare(&root);
    if result.is_err() && !force {
        let _ = fs::remove_file(config::ROOT_PATH);
    }
    result?;
    print(
        "dm-bow is enabled: from the next boot on, the root file system is on a bow device, and an update can be \
         rolled back. Reboot once, then `bowctl run -- COMMAND`.\n",
    )
}

/// Has the initramfs, systemd and GRUB know.
fn prepare(root: &Root) -> Result {
    initramfs::rebuild()?;
    initramfs::check(Path::new("/boot"))?;
    if let Err(failure) = begin::write_rescue(root) {
        // A copy that is not there must not be counted on.
        eprintln!("bowctl: {failure}");
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
    let mut args = vec!["enable", "--quiet"];
    args.extend(UNITS);
    programs::show("systemctl", &args)?;
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

fn disable(force: bool) -> Result {
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
    if Root::read().is_none() {
        return print("dm-bow is not enabled for the root file system.\n");
    }
    let text = fs::read_to_string(config::ROOT_PATH)
        .map_err(|error| CommandError::io(config::ROOT_PATH, &error))?;
    fs::remove_file(config::ROOT_PATH)
        .map_err(|error| CommandError::io(config::ROOT_PATH, &error))?;
    let mut args = vec!["disable", "--quiet"];
    args.extend(UNITS);
    let result = initramfs::rebuild()
        .and_then(|()| programs::show("systemctl", &args))
        .and_then(|()| update_grub());

    if let Err(failure) = result {
        if !force {
            // As it was: half of it would be worse than either.
            let _ = fs::write(config::ROOT_PATH, text);
            return Err(
                failure.advise("dm-bow is still enabled. `--force` goes on in spite of this.")
            );
        }
        eprintln!("bowctl: {failure}");
    }
    if let Some(rescue) = Rescue::find() {
        rescue.remove()?;
    }
    print("dm-bow is disabled: from the next boot on, the root file system is on its partition.\n")
}

fn status(json: bool) -> Result {
    let live = crate::root::live();
    let state = live.as_ref().map(Live::state).transpose()?;
    let root = Root::read();
    let boot = live
        .as_ref()
        .filter(|_| state == Some(State::Checkpoint))
        .and_then(begin::next_boot);
    let facts = Facts::find();
    let found = RootStatus {
        enabled: root.is_some(),
        partition: root
            .map(|root| root.partition)
            .or_else(|| facts.as_ref()?.partition.clone()),
        live: live.is_some(),
        state: state.map(state_name),
        on_trial: marks::is_try(),
        next_boot: boot.map(begin::at_next_boot),
        free_bytes: live.as_ref().map(Live::free).transpose()?,
        update: Records::default().pending(),
        obstacles: facts.map_or(Vec::new(), |facts| facts.obstacles()),
    };

    if json {
        return print_json(&found);
    }
    print(&status_text(&found))
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

/// Runs the checks. What fails is recorded in the new state; a required one fails the boot.
fn check_health() -> Result {
    let config = Config::read();
    let checks = health::all(&health::FOLDERS.map(Path::new));
    let failed = health::run(&checks, config.check, |line| println!("{line}"));

    if failed.is_empty() {
        return print("all checks passed\n");
    }
    let names = |required| -> Vec<&str> {
        failed
            .iter()
            .filter(|check| check.required == required)
            .map(|check| check.name.as_str())
            .collect()
    };
    let (required, wanted) = (names(true).join(", "), names(false).join(", "));
    let reason = if required.is_empty() {
        format!("wanted checks failed: {wanted}")
    } else {
        format!("required checks failed: {required}")
    };
    let is_good = required.is_empty();

    Records::default().add_failure(&Failure::now(reason.clone(), failed))?;
    if is_good {
        eprintln!("{reason}; the new state is kept all the same");
        return Ok(());
    }
    Err(CommandError::new(Code::RolledBack, reason))
}

/// Watches the free space of the open checkpoint, until there is none.
fn watch() -> Result {
    const INTERVAL: Duration = Duration::from_secs(5);
    let config = Config::read();

    loop {
        let Some(live) = crate::root::live() else {
            return Ok(());
        };

        if live.state()? != State::Checkpoint {
            return Ok(());
        }
        let free = live.free()?;
        let ends = live
            .figures()
            .is_some_and(|figures| matches!(figures.condition.as_str(), "full" | "failed"));
        if free < config.free_low || ends {
            return low_space(&live, &config, free);
        }
        sleep(INTERVAL);
    }
}

fn low_space(live: &Live, config: &Config, free: u64) -> Result {
    let reason = format!("{} were left for backups", bytes(free));

    match config.low_space {
        LowSpace::Nothing => {
            eprintln!("{reason}; LOW_SPACE=nothing");
            Ok(())
        }
        LowSpace::Commit => {
            eprintln!("{reason}; the new state is kept (LOW_SPACE=commit)");
            live.set_state(State::Committed)
                .map_err(|error| CommandError::io(NAME, &error))?;
            begin::committed(live, &reason)
        }
        LowSpace::Rollback => {
            eprintln!("{reason}; rolling back (LOW_SPACE=rollback)");
            begin::request_rollback(&Failure::now(reason, Vec::new()))?;
            begin::reboot(true)
        }
    }
}

/// Ends an update in the history when no checkpoint is open any more.
fn settle() -> Result {
    if let Some(live) = crate::root::live() {
        if live.state()? == State::Checkpoint {
            return Ok(());
        }
    }
    if let Some(ended) = Records::default().settle(NAME, "committed")? {
        let level = match ended.outcome {
            Outcome::Committed => "<5>",
            Outcome::RolledBack => "<4>",
        };

        eprintln!(
            "{level}update {}: {}: {}. `bowctl history` has the whole story.",
            begin::says(ended.outcome),
            ended.command.join(" "),
            ended.reason
        );
    }
    Ok(())
}

/// Waits until the trial has ended, and reboots if it does not end in time.
///
/// This is started in the initramfs and goes on after it, whatever becomes of init. The directory is opened at once,
/// since its path means nothing after the root has been switched.
fn guard() -> Result {
    const INTERVAL: Duration = Duration::from_secs(1);
    let config = Config::read();
    let folder =
        File::open(marks::FOLDER).map_err(|error| CommandError::io(marks::FOLDER, &error))?;
    let begun = Instant::now();

    loop {
        if accessat(&folder, marks::TRY_NAME, Access::EXISTS, AtFlags::empty()).is_err() {
            return Ok(());
        }
        // A little after systemd's own time, which does it in better order.
        if begun.elapsed() >= config.deadline + Duration::from_secs(30) {
            return begin::reboot_now();
        }
        sleep(INTERVAL);
    }
}

fn probe_device(arguments: &[String]) -> Result {
    let [device] = arguments else {
        return Err(CommandError::new(Code::Usage, "`probe` takes one device"));
    };
    let mut first = [0; SECTOR_SIZE];

    File::open(device)
        .and_then(|mut file| file.read_exact(&mut first))
        .map_err(|error| CommandError::io(device, &error))?;
    // Nothing is said: udev asks at every event of a partition.
    std::process::exit(match probe(&first) {
        Some(_) => 0,
        None => Code::NoLog as i32,
    });
}

/// Returns those of some packages that write to the places of a boot loader.
pub(super) fn boot_loaders<'a>(packages: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    packages
        .into_iter()
        .filter(|package| BOOT_LOADERS.iter().any(|start| package.starts_with(start)))
        .collect()
}

/// Guards what dpkg is about to do, or takes a checkpoint for it.
fn apt_before(packages: &[String]) -> Result {
    let config = Config::read();
    let Some(live) = crate::root::live() else {
        return Ok(());
    };
    let loaders = boot_loaders(packages.iter().map(String::as_str)).join(" ");
    let refused = !loaders.is_empty() && !config.boot_loader;

    if live.state()? == State::Checkpoint {
        if refused {
            return Err(CommandError::new(
                Code::State,
                format!(
                    "bow: a checkpoint is open, and {loaders} would write to the boot loader's places, which a \
                     rollback does not give back"
                ),
            )
            .advise(
                "Do that when no checkpoint is open, or set BOOT_LOADER=allow in /etc/bow.conf. Nothing was changed.",
            ));
        }
        // The checkpoint of an earlier run: until this one is through, a boot goes back.
        return match Records::default().pending() {
            Some(pending) if pending.by_apt => live.message(&["boot", "restore"]),
            _ => Ok(()),
        };
    }
    if !config.apt_auto || std::env::var_os(RUN_VARIABLE).is_some() {
        return Ok(());
    }
    if refused {
        eprintln!("bow: no checkpoint is taken: {loaders} would write to the boot loader's places, which a rollback does not give back");
        return Ok(());
    }
    let command: Vec<_> = ["apt:".to_owned()]
        .into_iter()
        .chain(packages.iter().cloned())
        .collect();

    // An upgrade that has no checkpoint is better than none: security updates must come in.
    if let Err(failure) = begin::begin(&config, &command, true) {
        eprintln!("bow: no checkpoint is taken: {failure}");
    }
    Ok(())
}

/// Arms the checkpoint that was taken for apt.
fn apt_after() -> Result {
    let is_open = crate::root::live()
        .map(|live| live.state())
        .transpose()?
        .is_some_and(|state| state == State::Checkpoint);

    match Records::default().pending() {
        Some(pending) if pending.by_apt && is_open => {
            begin::arm(&Config::read())?;
            print("bow: the next boot tries the upgraded system; if it does not become healthy, the old one comes back.\n")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_boot_loaders() {
        let packages = [
            "grub-efi-amd64-signed",
            "shim-signed",
            "grub-common",
            "linux-image-amd64",
            "systemd-boot-efi",
            "systemd",
        ];

        assert_eq!(
            boot_loaders(packages),
            ["grub-efi-amd64-signed", "shim-signed", "systemd-boot-efi"]
        );
    }

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
