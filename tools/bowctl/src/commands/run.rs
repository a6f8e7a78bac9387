// SPDX-License-Identifier: GPL-2.0

//! `bowctl run`: a command between a checkpoint and the decision about it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use bow_decisions::state::State;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use super::root::apt::{boot_loaders, own_removed, refuse_on_bios, RUN_VARIABLE};
use super::{checkpoint, print, tell};
use crate::error::{complain, Code, CommandError, Result};
use crate::live::Live;
use crate::root::begin;
use crate::root::config::Config;
use crate::root::packages;
use crate::root::update::{self, Ended, Failure, Outcome, Records};
use crate::root::{self, programs, reboot};
use crate::swap_back;

/// Time in which a reboot can still be stopped.
const GRACE: Duration = Duration::from_secs(10);

/// `bowctl run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow device, by its name, device node or mount point [default: that of the root file system].
    #[arg(long, value_name = "TARGET")]
    pub on: Option<PathBuf>,
    /// Command for a shell that decides, after the other, whether the result is good.
    #[arg(long, value_name = "CMD")]
    pub check: Option<String>,
    /// Do not reboot by itself. (The root file system only.)
    #[arg(long)]
    pub no_reboot: bool,
    /// The command and its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result {
    let live = match &args.on {
        Some(target) => Live::get(target)?,
        None => begin::live()?,
    };

    if live.name == root::NAME {
        of_root(args)
    } else {
        of_other(args, &live)
    }
}

/// Runs a command that updates the root file system.
fn of_root(args: &Args) -> Result {
    let config = Config::read();
    let packages = packages::of_apt(&args.command);

    if let Some(packages) = &packages {
        let loaders = boot_loaders(packages).join(" ");
        let own = own_removed(packages).join(" ");

        if packages.is_empty() {
            print("apt has nothing to change: no checkpoint is taken\n")?;
            return carry_out(args);
        }
        if !own.is_empty() {
            return Err(CommandError::new(
                Code::State,
                format!(
                    "{own} would be removed, which an open checkpoint needs. Nothing was changed."
                ),
            )
            .advise(format!(
                "Without a checkpoint it can be removed: `{}`.",
                args.command.join(" ")
            )));
        }
        refuse_on_bios(packages)?;
        if !loaders.is_empty() && !config.boot_loader {
            return Err(CommandError::new(
                Code::State,
                format!(
                    "{loaders} would write to the boot loader's places, which a rollback does not give back. Nothing was \
                     changed."
                ),
            )
            .advise(format!(
                "Upgrade them first, without a checkpoint: `apt install --only-upgrade {loaders}`; or set \
                 BOOT_LOADER=allow in /etc/bow.conf."
            )));
        }
    }
    let signals = Signals::outlive()?;
    let live = begin::begin(&config, &args.command, false)?;

    if signals.end_waiting() {
        begin::abandon(&live)?;
        return Err(CommandError::new(
            Code::Failed,
            "interrupted before the command: no checkpoint is open, and nothing was changed",
        ));
    }
    let done = carry_out(args);
    let reboot = config.reboot && !args.no_reboot;
    let shown = format!("{}: {}", root::NAME, args.command.join(" "));

    // It was for the command.
    signals.interrupt.store(false, Ordering::Relaxed);
    if live.state()? != State::Checkpoint {
        // By LOW_SPACE=commit, or a person.
        journal(&format!("{shown}: committed meanwhile"));
        tell("The checkpoint was committed meanwhile: there is nothing to go back to.\n");
        done?;
        return end(reboot, &signals);
    }
    if let Err(failure) = &done {
        // Such as a download that fails, or a person who answers no.
        if packages.is_some() && begin::abandon_if_untouched(&live)? {
            return Err(CommandError::new(
                Code::Failed,
                format!(
                    "{}: no package was changed, and no checkpoint is open any more",
                    failure.message
                ),
            ));
        }
    }
    let armed =
        done.and_then(|()| begin::arm(&config, || !begin::is_rollback_asked_for()).map(drop));
    match armed {
        Ok(()) => {
            journal(&format!("{shown}: complete; the next boot tries it"));
            tell("The update is complete. The next boot tries it; if it does not become healthy, the old system comes back.\n");
            end(reboot, &signals)
        }
        Err(failure) => {
            complain!("bowctl: {failure}");
            // Somebody who has asked for it meanwhile, as the watch over free space does, knows better why.
            if !begin::is_rollback_asked_for() {
                begin::request_rollback(&Failure::now(failure.message.clone(), Vec::new()))?;
            }
            journal(&format!(
                "{shown}: {}; the next boot goes back",
                failure.message
            ));
            tell("The next boot goes back to the checkpoint.\n");
            end(reboot, &signals)?;
            Err(CommandError::new(
                Code::RolledBack,
                format!("{}: rolled back at the next boot", root::NAME),
            ))
        }
    }
}

/// Reboots in a while, unless that is interrupted, or says that somebody has to.
fn end(reboot: bool, signals: &Signals) -> Result {
    const INTERVAL: Duration = Duration::from_millis(100);

    if reboot {
        tell(&format!(
            "Rebooting in {} seconds; Ctrl-C leaves that to you.\n",
            GRACE.as_secs()
        ));
        let begun = Instant::now();

        while !signals.end_waiting() {
            if begun.elapsed() >= GRACE {
                match reboot::by_systemd(false) {
                    Ok(()) => return Ok(()),
                    Err(failure) => complain!("bowctl: {failure}"),
                }
                break;
            }
            sleep(INTERVAL);
        }
    }
    tell("Reboot when it suits.\n");
    Ok(())
}

/// Signals that have come, each of which would have ended this process.
#[derive(Default)]
pub(in crate::commands) struct Signals {
    /// Ctrl-C.
    interrupt: Arc<AtomicBool>,
    /// From `kill`, or when the machine is shut down.
    terminate: Arc<AtomicBool>,
    /// The terminal has gone.
    hang_up: Arc<AtomicBool>,
}

impl Signals {
    /// Has this process outlive them: the decision comes after the command, which gets them as ever.
    pub(in crate::commands) fn outlive() -> Result<Self> {
        let signals = Self::default();

        for (signal, flag) in [
            (SIGINT, &signals.interrupt),
            (SIGTERM, &signals.terminate),
            (SIGHUP, &signals.hang_up),
        ] {
            flag::register(signal, flag.clone())
                .map_err(|error| CommandError::io("signals", &error))?;
        }
        Ok(signals)
    }

    /// Returns whether somebody does not want to wait for what comes next.
    fn end_waiting(&self) -> bool {
        self.interrupt.load(Ordering::Relaxed) || self.terminate.load(Ordering::Relaxed)
    }
}

/// Runs a command that updates another file system.
fn of_other(args: &Args, live: &Live) -> Result {
    let begun = update::now();

    Signals::outlive()?;
    checkpoint::run(&checkpoint::Args {
        targets: vec![PathBuf::from(&live.name)],
        no_trim: false,
        force: false,
        restore_at_boot: true,
    })?;
    // A target before 1.2 has not taken it with the checkpoint.
    live.message(&["boot", "restore"])?;
    let done = carry_out(args);
    let (outcome, reason) = match &done {
        Ok(()) => (Outcome::Committed, "the command succeeded".to_owned()),
        Err(failure) => (Outcome::RolledBack, failure.message.clone()),
    };
    let ended = Ended {
        begun,
        ended: update::now(),
        command: args.command.clone(),
        device: live.name.clone(),
        outcome,
        reason,
        boots: None,
        failures: Vec::new(),
    };

    match done {
        Ok(()) => {
            // Or it was, by `on_full:commit`.
            if live.state()? == State::Checkpoint {
                super::commit::commit_live(live)?;
            }
            live.set_state(State::Tracking)
                .map_err(|error| CommandError::io(&live.name, &error))?;
            note(&ended);
            Ok(())
        }
        Err(failure) => {
            complain!("bowctl: {failure}");
            let failure = match swap_back::now(live) {
                Ok(sentence) => CommandError::new(Code::RolledBack, sentence),
                Err(failure) => failure,
            };

            // Or will be: the log says so.
            if failure.code == Code::RolledBack {
                note(&ended);
            }
            Err(failure)
        }
    }
}

/// Adds to the history, and to the journal.
fn note(ended: &Ended) {
    if let Err(failure) = Records::default().add(ended) {
        complain!("bowctl: {failure}");
    }
    journal(&format!(
        "{}: {}: {}: {}",
        ended.device,
        ended.command.join(" "),
        begin::says(ended.outcome),
        ended.reason
    ));
}

/// Writes a line to the journal, where there is one.
fn journal(line: &str) {
    if programs::has("logger") {
        let _ = programs::output("logger", &["-t", "bowctl", line]);
    }
}

/// Runs the command, and the check after it.
fn carry_out(args: &Args) -> Result {
    let words: Vec<_> = args.command.iter().map(String::as_str).collect();

    command(&inhibited(&words), &args.command.join(" "))?;
    match &args.check {
        None => Ok(()),
        Some(check) => command(&["sh", "-c", check], &format!("the check `{check}`")),
    }
}

/// Returns the command such that nobody shuts the machine down meanwhile, where logind can do that.
fn inhibited<'a>(words: &[&'a str]) -> Vec<&'a str> {
    const INHIBIT: [&str; 6] = [
        "systemd-inhibit",
        "--what=shutdown:sleep",
        "--who=bowctl",
        "--why=an update is under way",
        "--mode=block",
        "--",
    ];
    let can = programs::has(INHIBIT[0]) && {
        let mut trial = INHIBIT[1..].to_vec();

        trial.push("true");
        programs::output(INHIBIT[0], &trial).is_ok()
    };

    match can {
        true => INHIBIT.iter().chain(words).copied().collect(),
        false => words.to_vec(),
    }
}

/// Runs a program whose input and output are the user's.
fn command(words: &[&str], shown: &str) -> Result {
    let (program, args) = words
        .split_first()
        .ok_or_else(|| CommandError::new(Code::Usage, "no command"))?;
    let status = Command::new(program)
        .args(args)
        .env(RUN_VARIABLE, "1")
        .status()
        .map_err(|error| CommandError::io(shown, &error))?;

    match status.success() {
        true => Ok(()),
        false => Err(CommandError::new(
            Code::Failed,
            format!("{shown}: {status}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_named() {
        assert!(command(&["true"], "true").is_ok());
        let failure = command(&["sh", "-c", "exit 7"], "seven").unwrap_err();

        assert_eq!(failure.code, Code::Failed);
        assert!(failure.message.starts_with("seven: ") && failure.message.contains('7'));
        assert_eq!(
            command(&["/nonexistent"], "none").unwrap_err().code,
            Code::Failed
        );
    }
}
