// SPDX-License-Identifier: GPL-2.0

//! `bow-crash`: cuts the power at any moment of a recording, and checks what dm-bow promises.
//!
//! In a guest, `tests/crash/record` runs a workload on a bow device between two dm-log-writes and
//! traces the bios of both. On the host this program reads such a [`recording`], works out what a
//! device with a volatile cache may hold at each moment ([`timeline`]), draws one of these states
//! ([`cut`]), and does to it what a user would: rolls back, keeps the new state ([`case`],
//! [`promises`]), or resumes the checkpoint and goes on until power fails again ([`go_on`]). No state is ever written to a disk, so that there can be thousands a minute.

#![deny(unsafe_code)]

mod case;
mod contents;
mod cut;
mod device;
mod ext4;
mod files;
mod fsck;
mod go_on;
mod log_writes;
mod promises;
mod reach;
mod recording;
mod sample;
mod sweep;
mod timeline;
mod trace;

use bow_random::Random;
use case::{Extra, Repair, Seed};
use clap::{Parser, Subcommand};
use contents::SECTOR;
use files::Load;
use recording::Recording;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use sweep::{Coverage, Plan};

/// Cut the power at any moment of a recording of dm-bow, and check what it promises.
///
/// Exit status: 0 every promise held, 1 one was broken, 2 the recording is unusable.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build and check many states of each recording.
    Sweep {
        /// Folders with a recording each.
        #[arg(required = true)]
        recordings: Vec<PathBuf>,
        /// States, in all recordings together; more if there are more flushes.
        #[arg(long, default_value_t = 2000)]
        states: usize,
        /// Restores and commits that are cut off at random, in all recordings together; besides, one
        /// restore of each is cut off at every request.
        #[arg(long, default_value_t = 200)]
        cut_offs: usize,
        /// Seed that the states are drawn with; a random one is taken, and printed, if it is left
        /// out.
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Stop a recording after so many failures.
        #[arg(long, default_value_t = 5)]
        failures: usize,
        /// Have e2fsck check some file systems, as files in this folder.
        #[arg(long)]
        fsck: Option<PathBuf>,
    },
    /// Build and check one state again, and tell what it is.
    Replay {
        recording: PathBuf,
        /// As a sweep printed it.
        #[arg(long)]
        seed: Seed,
        /// As in a sweep.
        #[arg(long)]
        fsck: Option<PathBuf>,
    },
    /// Write the device that a state is kept forward to, or restored to, to a file.
    Export {
        recording: PathBuf,
        #[arg(long)]
        seed: Seed,
        #[arg(long)]
        restore: bool,
        file: PathBuf,
    },
    /// Put file systems of some states onto a disk, for a guest to mount.
    Sample {
        #[arg(required = true)]
        recordings: Vec<PathBuf>,
        /// States of each recording that has a file system.
        #[arg(long, default_value_t = 8)]
        count: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long)]
        disk: PathBuf,
        /// The folder for what says where each is, and what its files must hold.
        #[arg(long)]
        dir: PathBuf,
    },
    /// In a guest: check the files of a state.
    CheckFiles { dir: PathBuf, steps: PathBuf },
    /// Tell what a recording holds.
    Show { recording: PathBuf },
    /// In a guest: change files, each step made durable and said so in the trace.
    Files {
        /// The folder that the files are in.
        dir: PathBuf,
        /// Remembers the files' versions.
        #[arg(long)]
        state: PathBuf,
        #[arg(long, default_value_t = 40)]
        count: usize,
        #[arg(long, default_value_t = 0)]
        steps: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Runs a sweep over all recordings. Returns whether every promise held.
fn sweep_all(recordings: &[PathBuf], plan: Plan<'_>) -> Result<bool, String> {
    let mut total = Coverage::default();
    let (mut passed, mut failed) = (0, 0);
    println!("seed {}", plan.seed);
    for (number, dir) in recordings.iter().enumerate() {
        let start = Instant::now();
        let recording = match Recording::load(dir) {
            Ok(recording) => recording,
            Err(error) => {
                println!("not ok - {}: {error}", dir.display());
                failed += 1;
                continue;
            }
        };
        if let Err(error) = recording.reach.check(&recording.at_least) {
            println!("not ok - {}: {error}", recording.name);
            failed += 1;
        }
        let share =
            |all: usize| (all * (number + 1)) / recordings.len() - all * number / recordings.len();
        let part = Plan {
            states: share(plan.states),
            cut_offs: share(plan.cut_offs),
            seed: plan.seed.wrapping_add(number as u64),
            ..plan
        };
        let (coverage, broken) = sweep::sweep(&recording, part);
        if let Some(lack) = coverage
            .lacks(&recording, &part)
            .filter(|_| broken.is_empty())
        {
            println!("not ok - {}: {lack}", recording.name);
            failed += 1;
        }
        for broken in &broken {
            println!(
                "not ok - {}: {}\n    bow-crash replay {} --seed {}",
                recording.name,
                broken.what,
                dir.display(),
                broken.seed
            );
        }
        println!(
            "{}: {coverage}; {:.1} s",
            recording.name,
            start.elapsed().as_secs_f32()
        );
        passed += coverage.states + coverage.restores_cut_off + coverage.commits_cut_off;
        failed += broken.len();
        total += coverage;
    }
    println!("crash sweep, seed {}: {total}", plan.seed);
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn show(dir: &Path) -> Result<(), String> {
    let recording = Recording::load(dir)?;
    println!(
        "{}: {} sectors of {SECTOR} bytes, {} to be given back; {} different contents\n\
         {} events, power fails from {} on; {} bios above bow, {} below\n\
         checkpoint: {:?}\ncommit: {:?}\n{:?}",
        recording.name,
        recording.sectors,
        recording.kept(),
        recording.contents.len(),
        recording.events,
        recording.from,
        recording.upper.bios.len(),
        recording.lower.bios.len(),
        recording.taken,
        recording.given_up,
        recording.reach
    );
    Ok(())
}

fn export(dir: &Path, seed: Seed, repair: Repair, file: &Path) -> Result<(), String> {
    let recording = Recording::load(dir)?;
    let device = case::repaired(&recording, seed, repair)?
        .ok_or("there is no log, or the cut has torn ext4's superblock")?;
    std::fs::write(file, device.image()).map_err(|error| format!("{}: {error}", file.display()))
}

fn sample_all(
    recordings: &[PathBuf],
    count: usize,
    seed: u64,
    disk: &Path,
    dir: &Path,
) -> Result<(), String> {
    let told = |error: std::io::Error| format!("{}: {error}", disk.display());
    std::fs::create_dir_all(dir.join("steps")).map_err(told)?;
    let file = std::fs::File::create(disk).map_err(told)?;
    let mut random = Random::new(seed);
    let mut used = 0;
    let mut list = String::new();
    for dir_of_one in recordings {
        let recording = Recording::load(dir_of_one)?;
        sample::sample(
            &recording,
            count,
            &mut random,
            &file,
            &mut used,
            &mut list,
            dir,
        )
        .map_err(|error| format!("{}: {error}", recording.name))?;
    }
    file.set_len(used).map_err(told)?;
    std::fs::write(dir.join("list"), list).map_err(told)
}

fn carry_out(command: Command) -> Result<bool, String> {
    match command {
        Command::Sweep {
            recordings,
            states,
            cut_offs,
            seed,
            threads,
            failures,
            fsck,
        } => {
            let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seed = seed.unwrap_or_else(|| clock.map_or(1, |time| time.as_nanos() as u64));
            let plan = Plan {
                states,
                cut_offs,
                seed,
                threads,
                failures,
                fsck: fsck.as_deref(),
            };
            sweep_all(&recordings, plan)
        }
        Command::Replay {
            recording,
            seed,
            fsck,
        } => {
            let recording = Recording::load(&recording)?;
            let extra = Extra {
                resume: true,
                files: true,
                fsck: fsck.as_deref(),
                tell: true,
            };
            match case::run(&recording, seed, extra) {
                Ok(outcome) => println!("ok - {}: {outcome:?}", recording.name),
                Err(what) => {
                    println!("not ok - {}: {what}", recording.name);
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Command::Export {
            recording,
            seed,
            restore,
            file,
        } => {
            let repair = match restore {
                true => Repair::Restore,
                false => Repair::Commit,
            };
            export(&recording, seed, repair, &file).map(|()| true)
        }
        Command::Sample {
            recordings,
            count,
            seed,
            disk,
            dir,
        } => sample_all(&recordings, count, seed, &disk, &dir).map(|()| true),
        Command::CheckFiles { dir, steps } => sample::check_files(&dir, &steps).map(|count| {
            println!("{count} files");
            true
        }),
        Command::Show { recording } => show(&recording).map(|()| true),
        Command::Files {
            dir,
            state,
            count,
            steps,
            seed,
        } => Load::new(&dir, &state)
            .and_then(|mut load| load.run(count, steps, seed, &state))
            .map(|()| true)
            .map_err(|error| error.to_string()),
    }
}

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bow-crash: {error}");
            ExitCode::from(2)
        }
    }
}
