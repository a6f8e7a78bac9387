// SPDX-License-Identifier: GPL-2.0

//! Commands that apt calls before and after dpkg.
//!
//! apt may be at work at any time of a boot on trial, while the checks run (bow-health) or the new state is committed
//! (bow-commit). Its look at the update and the change are one step that nobody else comes between ([`begin::disarm`]):
//!
//! - It begins before the commit: the trial of this boot ends, since what was booted will not be what is there. The
//!   units of the trial do nothing any more, nor does its deadline, so that no reboot meets dpkg at work; of checks that
//!   run already the result is not used. Until apt is through, the next boot goes back. When apt is through the update is
//!   armed again, and the next boot tries the whole of it, with all of its tries, whenever somebody reboots.
//! - It is through, and has armed again, before the checks end: the log says that the next boot tries, but this one is no
//!   trial any more, and is not committed.
//! - It fails, or is killed, or cannot arm: nothing is committed, and the next boot goes back.
//! - It begins after the commit: there is no checkpoint, or with `APT=auto` a new one.
//! - A rollback was asked for, before it began or while it ran: it does not arm, and the next boot goes back.
//!
//! dpkg without apt ends no trial: bow-health waits for it, for a time.

use bow_decisions::state::State;

use crate::commands::print;
use crate::commands::run::Signals;
use crate::error::{complain, Code, CommandError, Result};
use crate::root::config::Config;
use crate::root::update::{self, Ended, Failure, Outcome, Records};
use crate::root::{begin, layout, marks, next_boot, NAME};

/// Packages that write to the places of a boot loader, by the beginnings of their names.
const BOOT_LOADERS: [&str; 7] = [
    "grub-efi",
    "grub-pc",
    "grub-cloud",
    "grub2-common",
    "shim-",
    "systemd-boot",
    "refind",
];

/// Variable by which `bowctl run` tells the hook of apt that the checkpoint is its own.
pub(in crate::commands) const RUN_VARIABLE: &str = "BOW_RUN";

/// Returns those of some packages that write to the places of a boot loader.
pub(in crate::commands) fn boot_loaders(packages: &[String]) -> Vec<&str> {
    packages
        .iter()
        .map(|package| package.trim_end_matches('-'))
        .filter(|package| BOOT_LOADERS.iter().any(|start| package.starts_with(start)))
        .collect()
}

/// Refuses packages that run `grub-install` for BIOS, on a machine that was started by BIOS and has its root on a bow
/// device, with a checkpoint or without: the GRUB that it installs does not find its partition.
pub(in crate::commands) fn refuse_on_bios(packages: &[String]) -> Result {
    let installers = installers_for_bios(packages).join(" ");

    if installers.is_empty() || layout::is_uefi() {
        return Ok(());
    }
    Err(CommandError::new(
        Code::State,
        format!(
            "{installers} would install GRUB for BIOS without what it needs to find a partition below a bow device: \
             the machine would not boot"
        ),
    )
    .advise("Nothing was changed. Boot with `bow=off` on the kernel's command line, upgrade them, and boot again."))
}

/// Returns those of some packages that run `grub-install` for BIOS when they come or change.
fn installers_for_bios(packages: &[String]) -> Vec<&str> {
    packages
        .iter()
        .map(String::as_str)
        .filter(|package| {
            !package.ends_with('-')
                && ["grub-pc", "grub-cloud"]
                    .iter()
                    .any(|start| package.starts_with(start))
        })
        .collect()
}

/// Returns those of some packages that are removed, which an open checkpoint needs: dm-bow's own. The scripts of these
/// packages refuse that, as scripts/debian/lib/open-checkpoint has it.
pub(in crate::commands) fn own_removed(packages: &[String]) -> Vec<&str> {
    let kernels: Vec<_> = [update::kernel()]
        .into_iter()
        .chain(Records::default().pending().map(|pending| pending.kernel))
        .collect();

    own_removed_of(packages, &kernels)
}

/// Returns those that are removed, with the modules for these kernels: the one that runs, and the one that ran at the
/// checkpoint.
fn own_removed_of<'a>(packages: &'a [String], kernels: &[String]) -> Vec<&'a str> {
    packages
        .iter()
        .filter_map(|package| package.strip_suffix('-'))
        .filter(|package| match package.strip_prefix("dm-bow-modules-") {
            Some(release) => kernels.iter().any(|kernel| kernel == release),
            None => ["bowctl", "dm-bow-dkms", "dm-bow-root"].contains(package),
        })
        .collect()
}

/// Guards what dpkg is about to do, or takes a checkpoint for it. The names of packages that are removed have a hyphen
/// after them.
pub(super) fn before(packages: &[String]) -> Result {
    let config = Config::read();
    let is_automatic = config.apt_auto && std::env::var_os(RUN_VARIABLE).is_none();
    let live = match begin::live() {
        Ok(live) => live,
        Err(failure) => {
            if is_automatic {
                complain!("bow: no checkpoint is taken: {failure}");
            }
            return Ok(());
        }
    };
    refuse_on_bios(packages)?;
    let loaders = boot_loaders(packages).join(" ");
    let refused = !loaders.is_empty() && !config.boot_loader;
    let own = own_removed(packages).join(" ");

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
        if !own.is_empty() {
            return Err(CommandError::new(
                Code::State,
                format!("a checkpoint is open, which needs {own}"),
            )
            .advise(
                "Nothing was changed. Before it is removed, `bowctl commit bow-root` keeps the new state, or `bowctl \
                 rollback --reboot` goes back.",
            ));
        }
        if std::env::var_os(RUN_VARIABLE).is_some() {
            return Ok(());
        }
        // More for an update that is complete: until this is through, a boot goes back. After it, apt arms again.
        if begin::disarm(&live)? {
            return Ok(());
        }
        // Or it was committed meanwhile.
        if live.state()? == State::Checkpoint {
            if next_boot::restores(&live) {
                complain!(
                    "bow: the next boot goes back to the checkpoint, and undoes this too; `bowctl root status` tells more"
                );
            }
            return Ok(());
        }
    }
    if !is_automatic {
        return Ok(());
    }
    if refused {
        complain!("bow: no checkpoint is taken: {loaders} would write to the boot loader's places, which a rollback does not give back");
        return Ok(());
    }
    if !own.is_empty() {
        complain!("bow: no checkpoint is taken: {own} is removed, which an open checkpoint needs");
        return Ok(());
    }
    let command: Vec<_> = ["apt:".to_owned()]
        .into_iter()
        .chain(packages.iter().cloned())
        .collect();

    if let Some(reason) = undone(&Records::default().history(), &command) {
        return Err(CommandError::new(
            Code::State,
            format!("bow: the very same upgrade was rolled back: {reason}"),
        )
        .advise(
            "Nothing was changed. `bowctl history` has the whole story. When its cause is mended, `bowctl run -- apt …` \
             tries it again; or `apt-mark hold` the package that does not work.",
        ));
    }
    // Ctrl-C, which apt does not heed either, would leave a checkpoint that nobody arms.
    Signals::outlive()?;
    // An upgrade that has no checkpoint is better than none: security updates must come in.
    if let Err(failure) = begin::begin(&config, &command, true) {
        complain!("bow: no checkpoint is taken: {failure}");
    }
    Ok(())
}

/// Returns why `command` was undone, if it was the last update of the root file system: once more, as each day brings it, it would end so again.
fn undone<'a>(history: &'a [Ended], command: &[String]) -> Option<&'a str> {
    let last = history.iter().rfind(|update| update.device == NAME)?;

    (last.outcome == Outcome::RolledBack && last.command == command).then_some(&last.reason)
}

/// Arms the checkpoint that was taken for apt.
pub(super) fn after() -> Result {
    let is_open = crate::root::live()
        .map(|live| live.state())
        .transpose()?
        .is_some_and(|state| state == State::Checkpoint);
    // Not if a rollback was asked for.
    let is_to_arm = || {
        Records::default()
            .pending()
            .is_some_and(|pending| pending.by_apt)
    };

    if !is_open || !is_to_arm() {
        return Ok(());
    }
    begin::arm(&Config::read(), is_to_arm).inspect_err(|failure| {
        // The history will say why the update was undone.
        let failure = Failure::now(failure.message.clone(), Vec::new());

        if !is_to_arm() {
            return;
        }
        if let Err(failure) = Records::default().add_failure(&failure) {
            complain!("bow: {failure}");
        }
    })?;
    // By which unattended-upgrades reboots, if it may.
    if let Err(error) = marks::want_reboot() {
        complain!("bow: nobody is told that a reboot is wanted: {error}");
    }
    print("bow: the next boot tries the upgraded system; if it does not become healthy, the old one comes back.\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// apt has a line for each step; a package that is only configured was unpacked before.
    #[test]
    fn the_hook_names_each_package_once() {
        let hook = include_str!("../../../../root/apt/apt-before");
        let line = hook
            .lines()
            .find(|line| line.starts_with("packages="))
            .unwrap();
        let said = "VERSION 3\nAPT::Architecture=amd64\n\n\
                    libc6 1 amd64 same < 2 amd64 same /var/cache/apt/archives/libc6_2_amd64.deb\n\
                    old 1 all none > - - none **REMOVE**\n\
                    libc6 1 amd64 same < 2 amd64 same **CONFIGURE**\n\
                    grub-efi-amd64 2 amd64 none = 2 amd64 none **CONFIGURE**\n";
        let script = format!("{line}\necho $packages");
        let output = std::process::Command::new("sh")
            .args([
                "-c",
                &format!("printf '%s' \"$1\" | {{ {script}\n}}"),
                "sh",
                said,
            ])
            .output()
            .unwrap();

        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "grub-efi-amd64=2 libc6=2 old-\n"
        );
    }

    #[test]
    fn an_upgrade_that_was_undone_is_not_done_again() {
        let ended = |outcome, version: &str| Ended {
            begun: 1,
            ended: 2,
            command: owned(&["apt:", version]),
            device: "bow-root".to_owned(),
            outcome,
            reason: "it failed".to_owned(),
            boots: None,
            failures: Vec::new(),
        };
        let command = owned(&["apt:", "libc6=2"]);
        let bad = ended(Outcome::RolledBack, "libc6=2");

        assert_eq!(undone(&[], &command), None);
        assert_eq!(undone(&[bad.clone()], &command), Some("it failed"));
        // Another version; kept; something else in between, which may have mended the cause.
        assert_eq!(
            undone(&[ended(Outcome::RolledBack, "libc6=1")], &command),
            None
        );
        assert_eq!(
            undone(&[ended(Outcome::Committed, "libc6=2")], &command),
            None
        );
        assert_eq!(
            undone(&[bad, ended(Outcome::Committed, "libc6=1")], &command),
            None
        );
    }

    fn owned(packages: &[&str]) -> Vec<String> {
        packages.iter().copied().map(str::to_owned).collect()
    }

    #[test]
    fn packages_of_boot_loaders() {
        let packages = [
            "grub-efi-amd64-signed",
            "shim-signed",
            "grub-common",
            "linux-image-amd64",
            "systemd-boot-efi-",
            "systemd",
        ];

        assert_eq!(
            boot_loaders(&owned(&packages)),
            ["grub-efi-amd64-signed", "shim-signed", "systemd-boot-efi"]
        );
    }

    #[test]
    fn packages_that_install_grub_for_bios() {
        let packages = owned(&[
            "grub-cloud-amd64",
            "grub-common",
            "grub-efi-amd64",
            "grub-pc",
            "grub-pc-bin-",
        ]);

        assert_eq!(
            installers_for_bios(&packages),
            ["grub-cloud-amd64", "grub-pc"]
        );
    }

    #[test]
    fn own_packages_are_needed_unless_for_another_kernel() {
        let packages = owned(&[
            "bowctl-",
            "dm-bow-dkms",
            "dm-bow-modules-7.3.4-",
            "dm-bow-modules-7.3.5-",
            "dm-bow-root-",
            "linux-image-7.3.5-",
        ]);

        assert_eq!(
            own_removed_of(&packages, &owned(&["7.3.5", "7.3.6"])),
            ["bowctl", "dm-bow-modules-7.3.5", "dm-bow-root"]
        );
    }
}
