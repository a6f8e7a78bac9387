// SPDX-License-Identifier: GPL-2.0

//! Beginning, arming and ending an update of the root file system.
//!
//! From the checkpoint on, the log says that the next boot restores; so a power cut in mid-update goes back. Only
//! [`arm`] says that the new state may be tried, and only after all that it checks. Nothing but [`commit`] ends
//! the update in the new state.
//!
//! Several may be at work at the same time: a person, apt, the units of a boot on trial. What looks at the state of an
//! update and then changes it is alone ([`alone`]) from the look to the change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bow_decisions::log::Boot;
use bow_decisions::state::State;
use bow_fitrim::fitrim;
use indicatif::HumanBytes;

use super::config::{self, Config};
use super::decide::Word;
use super::initramfs;
use super::rescue::{self, Rescue};
use super::update::{self, Ended, Failure, Outcome, Pending, Records};
use super::{grub, layout, marks, next_boot, packages, programs, units, BOOT, NAME};
use crate::commands::{checkpoint, tell};
use crate::error::{complain, Code, CommandError, Result};
use crate::freeze::Frozen;
use crate::live::Live;
use crate::lock::lock_file;

/// File that is locked by what is alone.
const LOCK: &str = "/run/bow/lock";

/// Time that others may be at work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps others out that begin, arm or end an update, until the file that is returned is dropped.
///
/// # Errors
///
/// If they do not end in time.
pub fn alone() -> Result<File> {
    lock_file(Path::new(LOCK), PATIENCE)
}

/// Returns the live device under the root file system.
///
/// # Errors
///
/// [`Code::State`] says what to do to get one.
pub fn live() -> Result<Live> {
    super::live().ok_or_else(|| {
        let failure = CommandError::new(
            Code::State,
            "there is no bow device under the root file system",
        );

        match config::Root::read() {
            Some(_) => failure.advise(
                "It is enabled: reboot, and the initramfs makes it. If that has been done, `bowctl root status` says \
                 what is in the way.",
            ),
            None => failure.advise("`bowctl root enable` prepares it; then reboot."),
        }
    })
}

/// Returns the live device under the root file system, on which a checkpoint is open; without one there is nothing
/// that the words `to_do` name.
fn with_checkpoint(to_do: &str) -> Result<Live> {
    let live = live()?;

    if live.state()? == State::Checkpoint {
        return Ok(live);
    }
    Err(CommandError::new(
        Code::NoLog,
        format!("{NAME}: no checkpoint is open: there is nothing {to_do}"),
    ))
}

/// Takes the checkpoint for an update of the root file system by `command`.
///
/// # Errors
///
/// The first thing that is in the way. No checkpoint is open then.
pub fn begin(config: &Config, command: &[String], by_apt: bool) -> Result<Live> {
    let live = live()?;
    let _alone = alone()?;
    let records = Records::default();

    if live.state()? == State::Checkpoint {
        return Err(
            CommandError::new(Code::State, format!("{NAME}: a checkpoint is open already")).advise(
                "`bowctl status` says since when. The next boot decides about it, or `bowctl commit bow-root` keeps \
                 the new state.",
            ),
        );
    }
    can_begin()?;
    // No refusal: to mend them may be what the command is for.
    if let Ok(Some(audit)) = packages::not_whole() {
        complain!(
            "bowctl: packages are not whole, and if that is so after the update too, it is undone; `dpkg --configure -a` \
             may mend them before: {audit}"
        );
    }
    if let Some(root) = config::Root::read() {
        rescue::write(&root)?;
    }
    records.forget();
    if let Some(records) = records_elsewhere() {
        records.forget();
    }
    note_what_was(&records)?;
    let mut pending = Pending {
        begun: update::now(),
        command: command.to_vec(),
        kernel: update::kernel(),
        by_apt,
        is_new: false,
        database: packages::Database::read(),
    };
    records.set_pending(&pending)?;
    checkpoint::run(&checkpoint::Args {
        targets: vec![PathBuf::from(NAME)],
        no_trim: false,
        force: false,
        restore_at_boot: true,
    })
    .inspect_err(|_| records.forget())?;

    let mut go_on = || -> Result {
        // A target before 1.2 has not taken it with the checkpoint.
        live.message(&["boot", "restore"])?;
        enough_space(&live, config)?;
        pending.is_new = true;
        records.set_pending(&pending)?;
        marks::set_open().map_err(|error| CommandError::io(marks::OPEN, &error))?;
        // A kernel that is only half installed would not count.
        grub::set_tries(0)?;
        write_out()
    };
    if let Err(failure) = go_on() {
        if let Err(failure) = abandon(&live) {
            complain!("bowctl: {failure}");
        }
        return Err(failure);
    }
    let _ = programs::output("systemctl", &["start", "--no-block", "bow-space.service"]);
    Ok(live)
}

/// Ends a checkpoint after which nothing was done.
///
/// # Errors
///
/// If the target cannot commit. The next boot goes back, and loses nothing by that.
pub fn abandon(live: &Live) -> Result {
    live.set_state(State::Committed).map_err(|error| {
        CommandError::io(NAME, &error)
            .advise("The checkpoint is still open; the next boot goes back to it.")
    })?;
    ended(live);
    Records::default().forget();
    Ok(())
}

/// Ends the checkpoint that was taken for apt, if apt has ended before it changed a package. Returns `None` while apt is
/// at work, and afterwards whether that was so.
///
/// apt says nothing of it: it calls its hooks once more after dpkg only.
///
/// # Errors
///
/// Those of [`alone`] and [`abandon_if_untouched`].
pub fn abandon_if_apt_has(live: &Live) -> Result<Option<bool>> {
    let _alone = alone()?;

    if packages::is_frontend_at_work() || packages::is_dpkg_at_work() {
        return Ok(None);
    }
    let is_open = live.state()? == State::Checkpoint && next_boot::restores(live);
    let is_of_apt = Records::default()
        .pending()
        .is_some_and(|pending| pending.by_apt);

    Ok(Some(is_open && is_of_apt && abandon_if_untouched(live)?))
}

/// Ends the checkpoint of an update that has changed no package, unless a rollback was asked for. Returns whether that
/// was so.
///
/// # Errors
///
/// Those of [`abandon`].
pub fn abandon_if_untouched(live: &Live) -> Result<bool> {
    // dpkg may outlive an apt that was interrupted, and be about to begin.
    let is_untouched = !packages::is_dpkg_at_work()
        && Records::default().pending().is_some_and(|pending| {
            pending.database.is_some() && pending.database == packages::Database::read()
        });
    let is_unused = is_untouched && !is_rollback_asked_for();

    if is_unused {
        abandon(live)?;
    }
    Ok(is_unused)
}

/// Checks what may have changed since dm-bow was enabled.
fn can_begin() -> Result {
    no_word(&fs::read_to_string("/proc/cmdline").unwrap_or_default())?;
    if has_own_boot() {
        return Ok(());
    }
    if let Some(obstacle) = units::obstacle() {
        return Err(CommandError::new(Code::State, obstacle.reason).advise("Nothing was changed."));
    }
    let obstacles = layout::Facts::find().map_or(Vec::new(), |facts| facts.obstacles());

    if let Some(obstacle) = obstacles
        .iter()
        .find(|obstacle| obstacle.weight == layout::Weight::Refused)
    {
        return Err(CommandError::new(Code::State, obstacle.reason.clone())
            .advise("Nothing was changed. `bowctl root status` names all that is in the way."));
    }
    initramfs::check(Path::new(BOOT))
}

/// Refuses a kernel whose command line decides about a checkpoint. It was meant for the boot that there was, and kexec
/// may start another kernel with it.
fn no_word(line: &str) -> Result {
    match Word::find(line) {
        None => Ok(()),
        Some(_) => Err(CommandError::new(
            Code::State,
            "the command line of the kernel that runs has a word bow=, which would decide about the checkpoint if \
             that line was used once more, as kexec does",
        )
        .advise("Reboot without it first. Nothing was changed.")),
    }
}

/// Checks that there is some space for backups.
fn enough_space(live: &Live, config: &Config) -> Result {
    let free = live.free()?;

    if free >= config.free_min {
        return Ok(());
    }
    Err(CommandError::new(
        Code::State,
        format!(
            "{NAME}: only {} are free for backups, and FREE_MIN is {}",
            HumanBytes(free),
            HumanBytes(config.free_min)
        ),
    )
    .advise(format!(
        "No checkpoint is open. An update needs about twice the installed size of what it changes: make room, or \
         lower FREE_MIN in {}.",
        config::PATH
    )))
}

/// Notes for the checks how the system was before the update.
fn note_what_was(records: &Records) -> Result {
    if let Ok(units) = programs::output(
        "systemctl",
        &["list-units", "--state=failed", "--plain", "--no-legend"],
    ) {
        let names: Vec<_> = units
            .lines()
            .filter_map(|line| line.split_whitespace().next())
            .collect();

        records.note("failed-units", &(names.join("\n") + "\n"))?;
    }
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    if routes
        .lines()
        .any(|line| line.split_whitespace().nth(1) == Some("00000000"))
    {
        records.note("had-route", "")?;
    }
    Ok(())
}

/// Notes in the log that the new state may be tried, after checks without which it would not come up. Returns how
/// often. `may`, if nobody has asked for a rollback meanwhile, is found out while others are kept out.
///
/// # Errors
///
/// The first thing that is in the way. The next boot restores then, as before.
pub fn arm(config: &Config, may: impl FnOnce() -> bool) -> Result<u8> {
    let _alone = alone()?;
    let live = with_checkpoint("to try")?;

    if !may() {
        return Err(CommandError::new(
            Code::RolledBack,
            "a rollback was asked for meanwhile",
        ));
    }
    can_arm().map_err(|failure| {
        let more = format!(
            "The next boot goes back to the checkpoint. When this is mended, `bowctl arm` again.{}",
            failure
                .advice
                .as_ref()
                .map_or_else(String::new, |advice| format!(" {advice}"))
        );

        failure.advise(more)
    })?;
    // Those of an earlier attempt to arm.
    Records::default().forget_failures();
    // First what GRUB will read, since from the count on, it boots the new state; a block for the count too, which the
    // update may have removed.
    grub::set_tries(0)?;
    write_out()?;
    let tries = grub::set_tries(config.tries)?;
    live.message(&["boot", "try", &tries.to_string()])?;
    Ok(tries)
}

/// Has the next boot restore, as in any update, while apt does more to a new state that [`arm`] has let be tried, or
/// that is apt's own. Returns whether there is such a state.
///
/// A trial ends by that: this boot has shown nothing about what there will be.
///
/// # Errors
///
/// If the log cannot be written, GRUB's environment block, or the record that apt is to arm.
pub fn disarm(live: &Live) -> Result<bool> {
    let _alone = alone()?;
    let records = Records::default();
    let is_open = live.state()? == State::Checkpoint;
    let Some(pending) = records
        .pending()
        .filter(|pending| is_open && (pending.by_apt || next_boot::armed().is_some()))
    else {
        return Ok(false);
    };

    live.message(&["boot", "restore"])?;
    // What follows may fail: apt arms it again then as well.
    records.set_pending(&Pending {
        by_apt: true,
        ..pending
    })?;
    marks::end_try();
    grub::set_tries(0)?;
    write_out()?;
    Ok(true)
}

/// Checks that the new system can come up and decide about itself.
fn can_arm() -> Result {
    if let Some(audit) = packages::not_whole()? {
        return Err(
            CommandError::new(Code::State, format!("packages are not whole: {audit}"))
                .advise("`dpkg --configure -a` may end it."),
        );
    }
    if has_own_boot() {
        return Ok(());
    }
    initramfs::check(Path::new(BOOT))
}

/// Returns whether kernels and initramfs are a person's own, who looks at them.
fn has_own_boot() -> bool {
    config::Root::read().is_some_and(|root| root.own_boot)
}

/// Notes in the log that the next boot restores, and in the new state why.
///
/// Only the log counts: what an update has left may be full, or read-only, and has to be undone all the more.
///
/// # Errors
///
/// If no checkpoint is open, or the log cannot be written.
pub fn request_rollback(failure: &Failure) -> Result {
    let live = with_checkpoint("to go back to")?;
    // What is asked for last counts. Who does not end in time keeps nobody from going back.
    let _alone = alone().inspect_err(|failure| complain!("bowctl: {failure}"));

    // The log first. Whatever fails after it, the next boot restores. It says so all through an update, which may
    // have left nothing to send a message with.
    if let Err(failure) = live.message(&["boot", "restore"]) {
        if !next_boot::restores(&live) {
            return Err(failure);
        }
    }
    let records = Records::default();
    let noted = records.add_failure(failure).or_else(|refused| {
        records_elsewhere().map_or(Err(refused), |records| records.add_failure(failure))
    });
    // The next run of apt must not arm what is to be undone.
    let no_apt = match records.pending() {
        Some(pending) if pending.by_apt => records.set_pending(&Pending {
            by_apt: false,
            ..pending
        }),
        _ => Ok(()),
    };
    for result in [noted, no_apt, grub::set_tries(0).map(drop), sync()] {
        if let Err(failure) = result {
            complain!("bowctl: {failure}");
        }
    }
    Ok(())
}

/// Returns whether a rollback was asked for in the new state.
pub fn is_rollback_asked_for() -> bool {
    let elsewhere = records_elsewhere();

    [Some(Records::default()), elsewhere]
        .into_iter()
        .flatten()
        .any(|records| !records.failures().is_empty())
}

/// Returns the records on the EFI system partition, where one is mounted.
fn records_elsewhere() -> Option<Records> {
    Rescue::find().map(|rescue| rescue.records())
}

/// Ends an update in the history, when no checkpoint is open any more. Returns how it ended; `None` if none was under
/// way. `reason` is that of a commit.
///
/// # Errors
///
/// Those of the file system.
pub fn settle(reason: &str) -> Result<Option<Ended>> {
    let elsewhere = records_elsewhere();
    let more = elsewhere.as_ref().map_or(Vec::new(), Records::failures);
    let ended = Records::default().settle(NAME, reason, more)?;

    if let Some(records) = elsewhere {
        records.forget();
    }
    Ok(ended)
}

/// Keeps the new state, whatever the next boot was to do. The history has it then.
///
/// # Errors
///
/// If the target cannot commit; those of the file system.
pub fn commit(live: &Live, reason: &str) -> Result {
    // Who does not end in time keeps nobody from it.
    let alone = alone().inspect_err(|failure| complain!("bowctl: {failure}"));

    keep(live, reason, alone.ok())
}

/// Keeps the new state of a boot on trial that is healthy. If something else was decided in this boot, ends the trial,
/// and returns what the next boot does, in words.
///
/// # Errors
///
/// Those of [`commit`].
pub fn commit_trial(live: &Live) -> Result<Option<String>> {
    // The deadline of the trial ends this.
    let alone = loop {
        match alone() {
            Ok(alone) => break alone,
            Err(failure) => complain!("bowctl: {failure}"),
        }
    };

    if live.state()? != State::Checkpoint {
        return Ok(Some("no checkpoint is open".to_owned()));
    }
    let next = next_boot::boot(live).ok_or_else(|| {
        CommandError::new(Code::Failed, format!("{NAME}: the log cannot be read"))
    })?;
    // A rollback was asked for, or apt goes on with the update.
    if !marks::is_try() || next.action != Boot::TRY {
        marks::end_try();
        return Ok(Some(next_boot::in_words(next)));
    }
    keep(live, "the updated system is healthy", Some(alone))?;
    Ok(None)
}

/// Commits, and makes ready for the next checkpoint. `alone` keeps others out meanwhile.
fn keep(live: &Live, reason: &str, alone: Option<File>) -> Result {
    live.commit()?;
    tell(&format!("{NAME}: committed\n"));
    ended(live);
    if let Some(update) = settle(reason)? {
        tell(&format!(
            "{}: {}\n",
            update.command.join(" "),
            says(update.outcome)
        ));
    }
    // The copy is to be of a kernel that is there.
    if let Some(Err(failure)) = config::Root::read().map(|root| rescue::write(&root)) {
        complain!("bowctl: {failure}");
    }
    drop(alone);
    // The underlying device has not seen the discards since the checkpoint.
    if live.discards_below() {
        let _ = File::open("/").map(fitrim);
    }
    Ok(())
}

/// Ends all that a checkpoint which was committed has left.
fn ended(live: &Live) {
    if live.state().is_ok_and(|state| state == State::Committed) {
        let _ = live.set_state(State::Tracking);
    }
    if let Err(failure) = grub::unset_tries() {
        complain!("bowctl: {failure}");
    }
    marks::end();
}

/// Names an outcome.
pub fn says(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed",
        Outcome::RolledBack => "rolled back",
    }
}

/// Writes all of the root file system out to its places, not only to its journal, which GRUB does not read: freezes it
/// for a moment.
fn write_out() -> Result {
    let frozen = File::open("/")
        .map_err(|error| CommandError::io("/", &error))
        .and_then(|root| Frozen::new(&root, "/"))
        .and_then(|frozen| frozen.map_or(Ok(()), Frozen::thaw));

    frozen.or_else(|_| sync())
}

/// Makes all that was written to the root file system durable.
fn sync() -> Result {
    File::open("/")
        .and_then(|root| rustix::fs::syncfs(root).map_err(Into::into))
        .map_err(|error| CommandError::io("syncing /", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_decides_is_in_the_way_of_a_checkpoint() {
        for line in ["ro bow=commit", "bow=restore bow.tries_left=0 ro\n"] {
            assert_eq!(no_word(line).unwrap_err().code, Code::State);
        }
        assert!(no_word("root=UUID=1-2 ro quiet panic=30\n").is_ok());
    }
}
