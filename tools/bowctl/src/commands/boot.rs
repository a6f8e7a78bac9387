// SPDX-License-Identifier: GPL-2.0

//! `bowctl boot`: decides in the initramfs about the root partition, and carries it out.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use bow_decisions::log::{Boot, Header, BLOCK_SIZE_MAX, SECTOR_SIZE};
use rustix::mount::{mount, unmount, MountFlags, UnmountFlags};

use super::create::{make, Policies};
use super::{print, restore, resume};
use crate::crc::crc32;
use crate::device::{Access, BlockDevice, FileDevice};
use crate::error::{complain, Code, CommandError, Result};
use crate::live::Live;
use crate::recovery::{self, RecoveryError};
use crate::report::Block;
use crate::root::config::{Config, Root};
use crate::root::decide::{decide, Decision, Found, Situation, Stop, Way, Why, Word, REPORT_TRIED};
use crate::root::update::{self, Failure, Records, Report};
use crate::root::{self, console, grub, marks, partition, programs, reboot};

/// File that names the device to be mounted as the root, for the script that runs this.
const ANSWER: &str = "/run/bow/root";

/// Memory of the kernel before, where that has crashed and started this one to save it.
const CRASHED: &str = "/proc/vmcore";

/// Place where the root file system is mounted for its records.
const MOUNT: &str = "/run/bow/mnt";

/// Seconds after which a boot on trial that fails reboots: the kernel, when it panics, or the initramfs.
const PANIC_SECONDS: u64 = 30;

/// `bowctl boot`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The partition [default: that of the root file system, by /var/lib/bow/root.conf].
    pub device: Option<PathBuf>,
    /// Name of the bow device, which will be /dev/mapper/NAME.
    #[arg(long, default_value = root::NAME)]
    pub name: String,
    /// Type of the file system [default: by /var/lib/bow/root.conf].
    #[arg(long, value_name = "TYPE")]
    pub fs_type: Option<String>,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    pub dry_run: bool,
}

/// The boot of a machine, as far as the root partition goes.
struct Machine {
    config: Config,
    device: PathBuf,
    name: String,
    kind: Option<String>,
    rescue: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let config = Config::read();
    let by_config = Root::read();
    let device = match (&args.device, &by_config) {
        (Some(device), _) => device.clone(),
        (None, Some(root)) => match partition::find(&root.partition, config.wait)? {
            Some(node) => node,
            // The kernel or the initramfs may still find its root by other means.
            None => return Ok(()),
        },
        (None, None) => {
            return Err(CommandError::new(
                Code::Usage,
                "no device is named, and dm-bow is not enabled for the root file system",
            )
            .advise("`bowctl root enable` names it in /var/lib/bow/root.conf."))
        }
    };
    let machine = Machine {
        config,
        device,
        name: args.name.clone(),
        rescue: by_config.as_ref().is_some_and(|root| root.rescue),
        kind: args
            .fs_type
            .clone()
            .or_else(|| by_config.map(|root| root.kind)),
    };

    machine.boot(args.dry_run)
}

impl Machine {
    fn boot(&self, dry_run: bool) -> Result {
        let situation = self.situation()?;
        let decision = decide(situation);

        if dry_run {
            return print(&format!(
                "{}: {situation:?}: {decision:?}\n",
                self.device.display()
            ));
        }
        let can_resume = situation.module
            && matches!(
                situation.found,
                Found::Open {
                    resumable: true,
                    ..
                }
            );
        self.carry_out(decision, situation.module, can_resume)
    }

    /// Finds out what the decision depends on.
    fn situation(&self) -> Result<Situation> {
        let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();

        Ok(Situation {
            crashed: Path::new(CRASHED).exists(),
            found: self.found()?,
            module: has_target(),
            // Meant for the root.
            word: Word::find(&command_line).filter(|_| self.is_root()),
        })
    }

    /// Looks at the log.
    fn found(&self) -> Result<Found> {
        let device = FileDevice::open(&self.device, Access::Look)?;

        match recovery::header(&device) {
            Ok(header) if header.restoring => Ok(Found::Restoring),
            Ok(header) => Ok(Found::Open {
                boot: header.boot,
                resumable: recovery::can_resume(&device)
                    .inspect_err(|error| {
                        complain!("bow: the checkpoint cannot be gone on with: {error}");
                    })
                    .is_ok(),
            }),
            Err(RecoveryError::NoLog) => Ok(Found::None),
            Err(RecoveryError::Invalid(error)) => {
                complain!("bow: {}: {error}", self.device.display());
                Ok(Found::Damaged)
            }
            Err(error) => Err(CommandError::new(
                Code::Failed,
                format!("{}: {error}", self.device.display()),
            )),
        }
    }

    fn carry_out(&self, decision: Decision, module: bool, can_resume: bool) -> Result {
        match decision {
            Decision::Plain => Ok(()),
            Decision::Track => {
                // Nothing hangs on it: without dm-bow the machine boots as well.
                if let Err(failure) = self.track() {
                    complain!("bow: booting without dm-bow: {failure}");
                }
                Ok(())
            }
            // No marks: nobody is to watch over the space, or to commit.
            Decision::Resume if self.is_root() => self
                .resume_device()
                .and_then(|()| self.answer())
                .inspect_err(|failure| complain!("bow: {failure}"))
                .or_else(|_| self.carry_out(Decision::Reboot, module, false)),
            Decision::Resume => self.resume_device(),
            Decision::Reboot if self.is_root() => {
                say("a crash cannot be saved on the root file system; rebooting");
                reboot::at_once()
            }
            Decision::Reboot => Err(self.undecided("a crash cannot be saved on it")),
            Decision::Try { left } => {
                say(&format!(
                    "the updated system is tried; it may be tried {left} times more"
                ));
                self.set_boot(|boot| boot.tries_left = left)?;
                let resumed = self.resume(can_resume);
                if !self.is_root() {
                    return resumed;
                }
                if let Err(failure) = resumed {
                    // It was counted, so the machine goes back in the end.
                    say(&format!("{failure}"));
                    say(&format!("rebooting in {PANIC_SECONDS} seconds"));
                    sleep(Duration::from_secs(PANIC_SECONDS));
                    return reboot::at_once();
                }
                let _ = fs::write("/proc/sys/kernel/panic", PANIC_SECONDS.to_string());
                let number = self.header()?.boot.tries.saturating_sub(left);

                marks::set_try(number, &self.config)
                    .map_err(|error| CommandError::io(marks::TRY, &error))
            }
            Decision::Restore(why) => self.restore(why, module, can_resume),
            Decision::Commit => {
                say("the new state is kept, as the kernel's command line says");
                self.commit()?;
                self.carry_out(after_commit(module), module, false)
            }
            Decision::Ask(default) => match self.ask(default, can_resume) {
                Way::Resume => self.resume(can_resume),
                Way::Restore => self.restore(Why::Asked, module, can_resume),
                Way::Commit => {
                    self.commit()?;
                    self.carry_out(after_commit(module), module, false)
                }
            },
            Decision::Stop(stop) => {
                console::hide_splash();
                Err(self.stop(stop))
            }
        }
    }

    /// Returns whether the machine boots from the device.
    fn is_root(&self) -> bool {
        self.name == root::NAME
    }

    fn ask(&self, default: Way, can_resume: bool) -> Way {
        if !self.is_root() {
            return default;
        }
        console::hide_splash();
        console::ask(
            &format!(
                "{} holds an open checkpoint of the root file system{}.",
                self.device.display(),
                if can_resume {
                    ""
                } else {
                    ", and this kernel cannot go on with it"
                }
            ),
            can_resume,
            default,
            self.config.ask,
        )
    }

    /// Lays a bow device over the partition, in state 0.
    fn track(&self) -> Result {
        let sectors = FileDevice::open(&self.device, Access::Check)?.sectors();

        let options: Vec<_> = self.policies().arguments().collect();

        make(&self.name, &self.device, sectors, &options)?;
        if self.is_root() {
            self.answer()?;
        }
        Ok(())
    }

    /// Goes on with the checkpoint.
    fn resume(&self, can_resume: bool) -> Result {
        if !can_resume {
            return Err(self.undecided("the checkpoint cannot be gone on with"));
        }
        self.resume_device()
            .map_err(|failure| self.undecided(&failure.to_string()))?;
        if !self.is_root() {
            return Ok(());
        }
        marks::set_open().map_err(|error| CommandError::io(marks::OPEN, &error))?;
        self.answer()
    }

    fn resume_device(&self) -> Result {
        resume::run(&resume::Args {
            name: self.name.clone(),
            device: self.device.clone(),
            policies: self.policies(),
            force: false,
        })
    }

    /// Returns the policies of the device, new or resumed.
    fn policies(&self) -> Policies {
        Policies {
            on_full: None,
            low_water: None,
            no_discard_passdown: self.config.keep_discards,
        }
    }

    /// Names the device that is to be mounted as the root.
    fn answer(&self) -> Result {
        let write = || {
            fs::create_dir_all(marks::FOLDER)?;
            fs::write(ANSWER, format!("/dev/mapper/{}\n", self.name))
        };

        write().map_err(|error| CommandError::io(ANSWER, &error))
    }

    fn commit(&self) -> Result {
        let mut device = FileDevice::open(&self.device, Access::Write)?;

        recovery::commit(&mut device).map_err(|error| self.undecided(&error.to_string()))
    }

    /// Restores the old state. If that is the root's, leaves a report in it, and reboots.
    fn restore(&self, why: Why, module: bool, can_resume: bool) -> Result {
        if !self.is_root() {
            self.restore_device()?;
            return self.carry_out(after_commit(module), module, false);
        }
        console::hide_splash();
        let header = self.header()?;
        let boot = header.boot;
        let mut report = Report {
            time: update::now(),
            uuid: Block::new(0, &header).uuid,
            reason: String::new(),
            boots: 0,
            failures: Vec::new(),
        };

        if can_resume && boot.tries_left != REPORT_TRIED {
            // Noted first: if this hangs or crashes, the next boot restores without it.
            self.set_boot(|boot| {
                boot.action = Boot::RESTORE;
                boot.tries_left = REPORT_TRIED;
            })?;
            match self.failures() {
                Ok(failures) => report.failures = failures,
                Err(failure) => complain!("bow: what failed cannot be read: {failure}"),
            }
        }
        report.boots = boots(why, boot, &report.failures);
        report.reason = reason(why, boot, report.boots, &report.failures);

        say(&format!("rolling back: {}", report.reason));
        self.restore_device()?;
        if let Err(failure) = self.leave(&report) {
            complain!("bow: the report cannot be left in the old system: {failure}");
        }
        say("the old system is back; rebooting");
        // Always: the kernel that runs may belong to the state that is undone.
        reboot::at_once()
    }

    fn restore_device(&self) -> Result {
        restore::run(&restore::Args {
            device: self.device.clone(),
            dry_run: false,
            no_limit: false,
            force: false,
            quiet: false,
            hides: self.rescue,
            by_itself: true,
        })
        .map_err(|failure| match failure.code {
            Code::Damaged | Code::State => self.undecided(&failure.to_string()),
            _ => failure,
        })
    }

    /// Reads from the new state what failed in it.
    fn failures(&self) -> Result<Vec<Failure>> {
        self.resume_device()?;
        let live = Live::get(Path::new(&self.name))?;
        let failures = self
            .mounted(
                &Path::new("/dev/mapper").join(&self.name),
                MountFlags::RDONLY,
                |root| Ok(Records::of(root).failures()),
            )
            .inspect_err(|failure| complain!("bow: {failure}"));

        live.remove()?;
        failures
    }

    /// Leaves the report in the old state.
    fn leave(&self, report: &Report) -> Result {
        self.mounted(&self.device, MountFlags::empty(), |root| {
            Records::of(root).set_report(report)
        })
    }

    /// Mounts a device, and does something with what is mounted.
    fn mounted<T>(
        &self,
        device: &Path,
        flags: MountFlags,
        work: impl FnOnce(&Path) -> Result<T>,
    ) -> Result<T> {
        let kind = self.kind.as_deref().ok_or_else(|| {
            CommandError::new(Code::Usage, "the type of the file system is not known")
        })?;
        let place = Path::new(MOUNT);
        let failed = |error: std::io::Error| {
            CommandError::io(format_args!("mounting {}", device.display()), &error)
        };

        let _ = programs::output("modprobe", &[kind]);
        fs::create_dir_all(place).map_err(failed)?;
        mount(device, place, kind, flags, None::<&std::ffi::CStr>)
            .map_err(|error| failed(error.into()))?;
        let result = work(place);
        unmount(place, UnmountFlags::empty()).map_err(|error| failed(error.into()))?;
        result
    }

    fn header(&self) -> Result<Header> {
        let device = FileDevice::open(&self.device, Access::Look)?;

        recovery::header(&device).map_err(|error| self.undecided(&error.to_string()))
    }

    /// Changes the boot fields of the log, durably.
    fn set_boot(&self, change: impl FnOnce(&mut Boot)) -> Result {
        let mut device = FileDevice::open(&self.device, Access::Write)?;
        let failed = |error: std::io::Error| CommandError::io(self.device.display(), &error);
        let mut first = vec![0; BLOCK_SIZE_MAX as usize];

        device.read_at(0, &mut first).map_err(failed)?;
        let Ok(header) = Header::parse(&first, crc32) else {
            return Err(self.undecided("the log has changed"));
        };
        let mut boot = header.boot;
        change(&mut boot);
        if header.set_boot(&mut first, boot, crc32) {
            // One sector changes, so that nothing can be torn.
            let bytes = (header.block_size as usize).max(SECTOR_SIZE);

            device.write_at(0, &first[..bytes]).map_err(failed)?;
            device.flush().map_err(failed)?;
        }
        Ok(())
    }

    fn stop(&self, stop: Stop) -> CommandError {
        self.undecided(match stop {
            Stop::Damaged => "the log of its checkpoint is damaged",
            Stop::Off => {
                "bow=off, and there is an open checkpoint on it, without which it cannot be mounted"
            }
        })
    }

    /// Returns the error for what a person has to decide about.
    fn undecided(&self, what: &str) -> CommandError {
        let shown = self.device.display();

        CommandError::new(
            Code::Undecided,
            format!("{shown}: {what}. The root file system is not mounted."),
        )
        .advise(format!(
            "`bowctl check {shown}` looks at the log; `bowctl restore {shown}` goes back to the checkpoint; `bowctl \
             commit {shown}` keeps the new state. Then reboot."
        ))
    }
}

/// Returns what is done when the new state was kept.
fn after_commit(module: bool) -> Decision {
    if module {
        Decision::Track
    } else {
        Decision::Plain
    }
}

/// Returns how often the new state was booted, as far as that was counted.
fn boots(why: Why, boot: Boot, failures: &[Failure]) -> u8 {
    match (boot.action, why) {
        // The boot loader counts those too that die before the initramfs.
        (Boot::TRY, Why::TriesUsedUp) if boot.tries_left > 0 => boot.tries.min(grub::TRIES_MAX),
        (Boot::TRY, _) => boot.tries.saturating_sub(boot.tries_left),
        // A rollback that was asked for has taken the place of the count.
        _ => failures
            .iter()
            .filter_map(|failure| failure.boot)
            .max()
            .unwrap_or(0),
    }
}

/// Returns why the old state comes back, in words. The new state was booted `boots` times.
fn reason(why: Why, boot: Boot, boots: u8, failures: &[Failure]) -> String {
    // What only followed from checks that failed says less.
    let told = failures
        .iter()
        .rfind(|failure| !failure.checks.is_empty())
        .or(failures.last());
    if let Some(failure) = told {
        return failure.reason.clone();
    }
    match why {
        Why::Begun => "a restore had begun".to_owned(),
        Why::Word if boot.action == Boot::TRY => "asked for on the kernel's command line: by a person in the boot menu, or \
             by GRUB, which could not load the kernel of the updated system"
            .to_owned(),
        Why::Word => "asked for on the kernel's command line".to_owned(),
        Why::Requested => "the update did not come to its end".to_owned(),
        // Other systems that GRUB has started count too.
        Why::TriesUsedUp if boot.tries_left == boot.tries => format!(
            "the updated system did not become healthy: GRUB has counted {boots} starts, none of which came as far as its \
             initramfs"
        ),
        Why::TriesUsedUp => {
            format!("the updated system was booted {boots} times and did not become healthy")
        }
        Why::Asked => "this kernel could not go on with the checkpoint".to_owned(),
    }
}

/// Loads the module. Returns whether the target can be used.
fn has_target() -> bool {
    let loaded = || Path::new("/sys/module/dm_bow").exists();

    loaded() || {
        let _ = programs::output("modprobe", &["dm-bow"]);

        loaded()
    }
}

/// Says something on the console.
fn say(what: &str) {
    complain!("bow: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::update::FailedCheck;

    #[test]
    fn the_reason_is_what_failed_last() {
        let failure = |reason: &str| Failure {
            time: 0,
            kernel: String::new(),
            boot: None,
            reason: reason.to_owned(),
            checks: Vec::new(),
        };
        let after = |tries_left, failures: &[Failure]| {
            let boot = Boot {
                action: Boot::TRY,
                tries_left,
                tries: 3,
            };

            reason(Why::TriesUsedUp, boot, 3, failures)
        };
        let of = |failures: &[Failure]| after(0, failures);

        assert_eq!(of(&[failure("one"), failure("two")]), "two");
        let with_check = Failure {
            checks: vec![FailedCheck {
                name: "10-a".to_owned(),
                required: true,
                result: String::new(),
                output: String::new(),
            }],
            ..failure("one")
        };
        assert_eq!(of(&[with_check, failure("two")]), "one");
        assert!(of(&[]).contains("3 times"));
        assert!(after(3, &[]).contains("none of which"));
    }

    #[test]
    fn boots_are_counted_by_the_log_the_boot_loader_or_the_new_state() {
        let boot = |action, tries, tries_left| Boot {
            action,
            tries_left,
            tries,
        };
        let failure = |boot| Failure {
            time: 0,
            kernel: String::new(),
            boot,
            reason: String::new(),
            checks: Vec::new(),
        };

        assert_eq!(boots(Why::TriesUsedUp, boot(Boot::TRY, 5, 0), &[]), 5);
        assert_eq!(boots(Why::TriesUsedUp, boot(Boot::TRY, 2, 2), &[]), 2);
        assert_eq!(boots(Why::TriesUsedUp, boot(Boot::TRY, 5, 4), &[]), 3);
        assert_eq!(boots(Why::Word, boot(Boot::TRY, 3, 1), &[]), 2);
        let failures = [failure(None), failure(Some(2)), failure(Some(1))];
        assert_eq!(
            boots(Why::Requested, boot(Boot::RESTORE, 0, 0), &failures),
            2
        );
        assert_eq!(boots(Why::Requested, boot(Boot::RESTORE, 0, 0), &[]), 0);
    }
}
