// SPDX-License-Identifier: GPL-2.0

//! The sweep: which states of a recording are built, and what became of them.

use crate::case::{self, Extra, Outcome, Repair, Second, Seed};
use crate::log_writes::Kind;
use crate::random::Random;
use crate::recording::Recording;
use crate::trace::{Time, NEVER};
use std::ops::AddAssign;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) states: usize,
    /// Restores and commits that are cut off.
    pub(crate) cut_offs: usize,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// Give up after so many failures.
    pub(crate) failures: usize,
}

/// Files are read in one state out of so many.
const FILES_EVERY: usize = 4;

/// A restore with no more requests than this is cut off at each of them.
const EVERY_REQUEST: u32 = 400;

/// What was covered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) states: usize,
    /// States with a log, from which both ways were tried.
    pub(crate) logs: usize,
    /// Moments at which power failed.
    pub(crate) moments: usize,
    /// Flushes and writes with FUA around which it did.
    pub(crate) flushes: usize,
    pub(crate) restores_cut_off: usize,
    pub(crate) commits_cut_off: usize,
    /// States in which files were read.
    pub(crate) files: usize,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.logs += other.logs;
        self.moments += other.moments;
        self.flushes += other.flushes;
        self.restores_cut_off += other.restores_cut_off;
        self.commits_cut_off += other.commits_cut_off;
        self.files += other.files;
    }
}

/// A state that broke a promise.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) seed: Seed,
    pub(crate) what: String,
}

/// Builds and checks the states of a recording.
pub(crate) fn sweep(recording: &Recording, plan: Plan) -> (Coverage, Vec<Broken>) {
    let mut random = Random::new(plan.seed);
    let (mut seeds, flushes) = states(recording, plan.states, &mut random);
    let mut coverage = Coverage {
        flushes,
        ..Coverage::default()
    };
    let (outcomes, mut broken) = run_all(recording, plan, &seeds);
    for outcome in outcomes.iter().flatten() {
        coverage.states += 1;
        coverage.logs += usize::from(outcome.has_log);
        coverage.files += usize::from(outcome.files > 0);
    }
    let second = cut_offs(&seeds, &outcomes, plan.cut_offs, &mut random);
    seeds.sort_unstable_by_key(|seed| seed.cut);
    seeds.dedup_by_key(|seed| seed.cut);
    coverage.moments = seeds.len();

    if broken.len() < plan.failures {
        let (outcomes, more) = run_all(recording, plan, &second);
        for (seed, _) in second.iter().zip(&outcomes).filter(|(_, o)| o.is_some()) {
            match seed.second.map(|second| second.repair) {
                Some(Repair::Commit) => coverage.commits_cut_off += 1,
                _ => coverage.restores_cut_off += 1,
            }
        }
        broken.extend(more);
    }
    (coverage, broken)
}

/// Seeds of `count` states, and the number of flushes around which power fails.
///
/// First come, once each, the moments just before and just after the end of every flush and every
/// write with FUA, then the moments around the two decisions, then any.
fn states(recording: &Recording, count: usize, random: &mut Random) -> (Vec<Seed>, usize) {
    let in_sweep = |time: &Time| (recording.from..recording.events).contains(time);
    let bios = &recording.lower.bios;
    let mut ends: Vec<Time> = bios
        .iter()
        .filter(|bio| matches!(bio.kind, Kind::Flush | Kind::Fua))
        .map(|bio| bio.end)
        .filter(in_sweep)
        .collect();
    shuffle(&mut ends, random);
    let all: Vec<Time> = bios
        .iter()
        .flat_map(|bio| [bio.start, bio.end])
        .filter(in_sweep)
        .map(|time| time + 1)
        .collect();
    let decisions: Vec<Time> = [Some(recording.taken), recording.given_up]
        .into_iter()
        .flatten()
        .flat_map(|decision| {
            let last = match decision.reported {
                NEVER => decision.durable,
                reported => reported,
            };
            decision.start.saturating_sub(12)..=last.min(decision.start + 200) + 4
        })
        .filter(in_sweep)
        .collect();

    let mut cuts: Vec<Time> = Vec::new();
    cuts.extend(ends.iter().take(count / 3).flat_map(|end| [*end, end + 1]));
    let flushes = cuts.len() / 2;
    for _ in 0..(count / 8).min(decisions.len() * 16) {
        cuts.push(decisions[random.below(decisions.len())]);
    }
    while cuts.len() < count && !all.is_empty() {
        // Just before the end of a flush most is in flight.
        cuts.push(match random.chance(1, 2) && !ends.is_empty() {
            true => ends[random.below(ends.len())],
            false => all[random.below(all.len())],
        });
    }
    cuts.truncate(count);
    let seeds = cuts
        .into_iter()
        .map(|cut| Seed {
            cut,
            random: random.bits() as u32,
            second: None,
        })
        .collect();
    (seeds, flushes)
}

fn shuffle<T>(list: &mut [T], random: &mut Random) {
    for at in (1..list.len()).rev() {
        list.swap(at, random.below(at + 1));
    }
}

/// Seeds of repairs that are cut off: at every request for some states, at a random one for others.
fn cut_offs(
    seeds: &[Seed],
    outcomes: &[Option<Outcome>],
    count: usize,
    random: &mut Random,
) -> Vec<Seed> {
    let logs: Vec<_> = seeds
        .iter()
        .zip(outcomes)
        .filter_map(|(seed, outcome)| Some((seed, outcome.as_ref()?)))
        .filter(|(_, outcome)| outcome.restore > 0 && outcome.commit > 0)
        .collect();
    let mut list = Vec::new();
    if logs.is_empty() || count == 0 {
        return list;
    }
    let mut add = |seed: &Seed, repair, requests, random: &mut Random| {
        list.push(Seed {
            second: Some(Second {
                repair,
                requests,
                random: random.bits() as u32,
            }),
            ..*seed
        });
        list.len()
    };
    // Half of them at every request of a restore.
    loop {
        let (seed, outcome) = logs[random.below(logs.len())];
        let every = outcome.restore <= EVERY_REQUEST.min(count as u32 / 8);
        let mut done = 0;
        for requests in 1..=outcome.restore {
            if every || random.chance(8, outcome.restore as usize) {
                done = add(seed, Repair::Restore, requests, random);
            }
        }
        if done >= count / 2 {
            break;
        }
    }
    loop {
        let (seed, outcome) = logs[random.below(logs.len())];
        let done = match random.below(8) {
            0 => {
                let requests = random.below(outcome.commit as usize) as u32 + 1;
                add(seed, Repair::Commit, requests, random)
            }
            _ => {
                let requests = random.below(outcome.restore as usize) as u32 + 1;
                add(seed, Repair::Restore, requests, random)
            }
        };
        if done >= count {
            break;
        }
    }
    list
}

/// Runs all cases on some threads. An outcome is missing where a promise was broken, or nobody came
/// to it any more.
fn run_all(
    recording: &Recording,
    plan: Plan,
    seeds: &[Seed],
) -> (Vec<Option<Outcome>>, Vec<Broken>) {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(vec![None; seeds.len()]);
    let broken = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let failed = broken.lock().expect("no thread panics").len();
                let Some(seed) = seeds.get(at).filter(|_| failed < plan.failures) else {
                    break;
                };
                let extra = Extra {
                    files: at % FILES_EVERY == 0,
                    tell: false,
                };
                match case::run(recording, *seed, extra) {
                    Ok(outcome) => {
                        outcomes.lock().expect("no thread panics")[at] = Some(outcome);
                    }
                    Err(what) => {
                        let seed = *seed;
                        broken
                            .lock()
                            .expect("no thread panics")
                            .push(Broken { seed, what });
                    }
                }
            });
        }
    });
    let finished = "all threads have ended";
    (
        outcomes.into_inner().expect(finished),
        broken.into_inner().expect(finished),
    )
}
