// SPDX-License-Identifier: GPL-2.0

//! `bow-crash`: cuts the power at any moment of a recording, and checks what dm-bow promises.
//!
//! In a guest, `tests/crash/record` runs a workload on a bow device between two dm-log-writes and
//! traces the bios of both. On the host this program reads such a [`recording`], works out what a
//! device with a volatile cache may hold at each moment ([`timeline`]), draws one of these states
//! ([`cut`]), and does to it what a user would: rolls back, or keeps the new state ([`case`],
//! [`promises`]). No state is ever written to a disk, so that there can be thousands a minute.

#![deny(unsafe_code)]

mod case;
mod contents;
mod cut;
mod device;
mod ext4;
mod files;
mod log_writes;
mod promises;
mod random;
mod recording;
mod sweep;
mod timeline;
mod trace;

use bowctl::device::BlockDevice;
use case::{Extra, Seed};
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
        /// States, in all recordings together.
        #[arg(long, default_value_t = 2000)]
        states: usize,
        /// Restores and commits that are cut off, in all recordings together.
        #[arg(long, default_value_t = 200)]
        cut_offs: usize,
        /// What the states are drawn with; a random one is taken, and printed, if it is left out.
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value_t = 2)]
        threads: usize,
        /// Stop a recording after so many failures.
        #[arg(long, default_value_t = 5)]
        failures: usize,
    },
    /// Build and check one state again, and tell what it is.
    Replay {
        recording: PathBuf,
        /// As a sweep printed it.
        #[arg(long)]
        seed: Seed,
    },
    /// Write the device that is kept forward from a state to a file.
    Export {
        recording: PathBuf,
        #[arg(long)]
        seed: Seed,
        file: PathBuf,
    },
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
fn sweep_all(recordings: &[PathBuf], plan: Plan) -> Result<bool, String> {
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
        let share =
            |all: usize| (all * (number + 1)) / recordings.len() - all * number / recordings.len();
        let part = Plan {
            states: share(plan.states),
            cut_offs: share(plan.cut_offs),
            seed: plan.seed.wrapping_add(number as u64),
            ..plan
        };
        let (coverage, broken) = sweep::sweep(&recording, part);
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
            "{}: {} in {:.1} s",
            recording.name,
            tell(coverage),
            start.elapsed().as_secs_f32()
        );
        passed += coverage.states + coverage.restores_cut_off + coverage.commits_cut_off;
        failed += broken.len();
        total += coverage;
    }
    println!("crash sweep: {}", tell(total));
    println!("{passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn tell(coverage: Coverage) -> String {
    format!(
        "{} states ({} with a log) at {} moments around {} flushes, \
         {} restores and {} commits cut off, files read in {}",
        coverage.states,
        coverage.logs,
        coverage.moments,
        coverage.flushes,
        coverage.restores_cut_off,
        coverage.commits_cut_off,
        coverage.files
    )
}

fn show(dir: &Path) -> Result<(), String> {
    let recording = Recording::load(dir)?;
    println!(
        "{}: {} sectors of {SECTOR} bytes, {} to be given back; {} different contents\n\
         {} events, power fails from {} on; {} bios above bow, {} below\n\
         checkpoint: {:?}\ncommit: {:?}",
        recording.name,
        recording.sectors,
        recording.kept(),
        recording.contents.len(),
        recording.events,
        recording.from,
        recording.upper.bios.len(),
        recording.lower.bios.len(),
        recording.taken,
        recording.given_up
    );
    Ok(())
}

fn export(dir: &Path, seed: Seed, file: &Path) -> Result<(), String> {
    let recording = Recording::load(dir)?;
    let device = case::kept(&recording, seed)?;
    let mut bytes = vec![0; device.sectors.len() * SECTOR];
    device
        .read_at(0, &mut bytes)
        .and_then(|()| std::fs::write(file, bytes))
        .map_err(|error| format!("{}: {error}", file.display()))
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
        } => {
            let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            let seed = seed.unwrap_or_else(|| clock.map_or(1, |time| time.as_nanos() as u64));
            let plan = Plan {
                states,
                cut_offs,
                seed,
                threads,
                failures,
            };
            sweep_all(&recordings, plan)
        }
        Command::Replay { recording, seed } => {
            let recording = Recording::load(&recording)?;
            let extra = Extra {
                files: true,
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
            file,
        } => export(&recording, seed, &file).map(|()| true),
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
