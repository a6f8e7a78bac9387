// SPDX-License-Identifier: GPL-2.0

//! The sweep: which states of a recording are built, and what became of them.

use crate::case::{self, Extra, Outcome, Repair, Second, Seed};
use crate::log_writes::Kind;
use crate::recording::Recording;
use crate::trace::Time;
use bow_random::Random;
use std::fmt;
use std::ops::AddAssign;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

/// Amount of work of a sweep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan<'a> {
    /// States, if the flushes do not ask for more.
    pub(crate) states: usize,
    /// Restores and commits that are cut off, beyond the restore and the commit that are at every request.
    pub(crate) cut_offs: usize,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    /// Give up after so many failures.
    pub(crate) failures: usize,
    /// Folder in which file systems may lie as files for e2fsck.
    pub(crate) fsck: Option<&'a Path>,
}

/// Files are read in one state out of so many.
const FILES_EVERY: usize = 5;

/// Of so many states some are looked at in every way.
const EVERY_KIND: usize = 200;

/// Of so many states all but one are resumed.
const RESUME_ALL_BUT_ONE_OF: usize = 3;

/// e2fsck checks one state out of so many.
const FSCK_EVERY: usize = 31;

/// States at each moment at which a write that decides is under way.
const STATES_OF_A_DECISION: usize = 32;

/// Moments of a decision that are looked at so closely.
const MOMENTS_OF_A_DECISION: u32 = 8;

/// The longest restore, in requests, that is cut off at each of them.
const EVERY_REQUEST: u32 = 800;

/// Coverage of a sweep.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) states: usize,
    /// States with a log, from which both ways were tried.
    pub(crate) logs: usize,
    /// Moments at which power failed.
    pub(crate) moments: usize,
    /// Flushes and writes with FUA: power failed just before and just after the end of each.
    pub(crate) flushes: usize,
    /// Writes that arrived in part.
    pub(crate) torn: usize,
    pub(crate) restores_cut_off: usize,
    /// Requests of the restores that were cut off at each.
    pub(crate) every_request: usize,
    pub(crate) commits_cut_off: usize,
    /// States in which files were read.
    pub(crate) files: usize,
    /// File systems that e2fsck found clean.
    pub(crate) clean: usize,
    /// States that were resumed.
    pub(crate) resumed: usize,
    /// Resumes of all these.
    pub(crate) lives: usize,
    /// Writes after them.
    pub(crate) writes: usize,
}

impl AddAssign for Coverage {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.logs += other.logs;
        self.moments += other.moments;
        self.flushes += other.flushes;
        self.torn += other.torn;
        self.restores_cut_off += other.restores_cut_off;
        self.every_request += other.every_request;
        self.commits_cut_off += other.commits_cut_off;
        self.files += other.files;
        self.clean += other.clean;
        self.resumed += other.resumed;
        self.lives += other.lives;
        self.writes += other.writes;
    }
}

impl Coverage {
    /// Returns what a sweep that found nothing must have looked at, and did not.
    pub(crate) fn lacks(&self, recording: &Recording, plan: &Plan<'_>) -> Option<&'static str> {
        let is_ext4 = recording.fs == "ext4";
        let enough = self.states > EVERY_KIND;
        if self.logs == 0 {
            Some("no state with a log")
        } else if enough && self.resumed == 0 {
            Some("no state that was resumed")
        } else if plan.cut_offs > 0 && self.restores_cut_off == 0 {
            Some("no restore that was cut off")
        } else if is_ext4 && enough && self.files == 0 {
            Some("no state of which files were read")
        } else if is_ext4 && enough && plan.fsck.is_some() && self.clean == 0 {
            Some("no file system that e2fsck looked at")
        } else {
            None
        }
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} states ({} with a log) at {} moments, before and after all {} flushes; {} torn writes; \
             {} restores cut off ({} of them one at every request) and {} commits",
            self.states,
            self.logs,
            self.moments,
            self.flushes,
            self.torn,
            self.restores_cut_off,
            self.every_request,
            self.commits_cut_off
        )?;
        write!(
            f,
            "; {} of the states resumed, {} times in all, with {} writes",
            self.resumed, self.lives, self.writes
        )?;
        if self.files > 0 {
            write!(f, "; files read in {}", self.files)?;
        }
        if self.clean > 0 {
            write!(f, ", {} clean by e2fsck", self.clean)?;
        }
        Ok(())
    }
}

/// A state that broke a promise.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) seed: Seed,
    pub(crate) what: String,
}

/// Builds and checks the states of a recording.
pub(crate) fn sweep(recording: &Recording, plan: Plan<'_>) -> (Coverage, Vec<Broken>) {
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
        coverage.torn += outcome.torn;
        coverage.files += usize::from(outcome.files > 0);
        coverage.clean += outcome.clean;
        coverage.resumed += usize::from(outcome.gone_on.lives > 0);
        coverage.lives += outcome.gone_on.lives;
        coverage.writes += outcome.gone_on.writes;
    }
    let (second, every_request) = cut_offs(&seeds, &outcomes, plan.cut_offs, &mut random);
    seeds.sort_unstable_by_key(|seed| seed.cut);
    seeds.dedup_by_key(|seed| seed.cut);
    coverage.moments = seeds.len();

    if broken.len() < plan.failures {
        let (outcomes, more) = run_all(recording, plan, &second);
        for (seed, outcome) in second.iter().zip(&outcomes) {
            let Some(outcome) = outcome else {
                continue;
            };
            coverage.torn += outcome.torn;
            match seed.second.map(|second| second.repair) {
                Some(Repair::Commit) => coverage.commits_cut_off += 1,
                _ => coverage.restores_cut_off += 1,
            }
        }
        coverage.every_request = every_request;
        broken.extend(more);
    }
    (coverage, broken)
}

/// Returns the seeds of `count` states or more, and the number of flushes around which power fails.
///
/// First come the moments just before and just after the end of every flush and every write with
/// FUA, each once; then those at which a write that decides is under way, each many times; then any.
fn states(recording: &Recording, count: usize, random: &mut Random) -> (Vec<Seed>, usize) {
    let (mut cuts, flushes) = flush_boundaries(recording);
    for decision in [Some(recording.taken), recording.given_up]
        .into_iter()
        .flatten()
    {
        let last = decision
            .durable
            .min(decision.start + MOMENTS_OF_A_DECISION)
            .min(recording.events);
        for cut in decision.start + 1..=last {
            cuts.extend([cut; STATES_OF_A_DECISION]);
        }
    }
    let any = moments(recording);
    while cuts.len() < count {
        cuts.push(any.draw(random));
    }
    let seeds = cuts.into_iter().map(|cut| seed_at(cut, random)).collect();
    (seeds, flushes)
}

fn seed_at(cut: Time, random: &mut Random) -> Seed {
    Seed {
        cut,
        random: random.bits() as u32,
        second: None,
    }
}

/// Returns the ends of flushes and writes with FUA that end while power may fail.
fn flush_ends(recording: &Recording) -> impl Iterator<Item = Time> + '_ {
    recording
        .lower
        .bios
        .iter()
        .filter(|bio| matches!(bio.kind, Kind::Flush | Kind::Fua))
        .map(|bio| bio.end)
        .filter(|end| (recording.from..recording.events).contains(end))
}

/// Returns the moments before and after the end of every flush, and the number of flushes.
fn flush_boundaries(recording: &Recording) -> (Vec<Time>, usize) {
    let cuts: Vec<_> = flush_ends(recording)
        .flat_map(|end| [end, end + 1])
        .collect();
    let flushes = cuts.len() / 2;
    (cuts, flushes)
}

/// Moments to draw from.
pub(crate) struct Moments {
    /// Just before the end of a flush most is in flight.
    flushes: Vec<Time>,
    /// Everything that happens to a write.
    writes: Vec<Time>,
}

/// Returns the moments of a recording.
pub(crate) fn moments(recording: &Recording) -> Moments {
    let range = recording.from..recording.events;
    let bios = recording.lower.bios.iter();
    let mut writes: Vec<Time> = bios
        .flat_map(|bio| [bio.start, bio.end])
        .filter(|time| range.contains(time))
        .map(|time| time + 1)
        .collect();
    // Nothing may have been written at all.
    writes.push(recording.from);
    Moments {
        flushes: flush_ends(recording).collect(),
        writes,
    }
}

impl Moments {
    fn draw(&self, random: &mut Random) -> Time {
        let list = match random.chance(1, 2) && !self.flushes.is_empty() {
            true => &self.flushes,
            false => &self.writes,
        };
        list[random.index(list.len())]
    }

    /// Returns a state at any moment.
    pub(crate) fn seed(&self, random: &mut Random) -> Seed {
        seed_at(self.draw(random), random)
    }
}

/// Seeds of repairs that are cut off: `count` at random requests of random states, after those of a
/// restore, and a commit, that are cut off at every request. Returns how many these are, too.
fn cut_offs(
    seeds: &[Seed],
    outcomes: &[Option<Outcome>],
    count: usize,
    random: &mut Random,
) -> (Vec<Seed>, usize) {
    let logs: Vec<_> = seeds
        .iter()
        .zip(outcomes)
        .filter_map(|(seed, outcome)| Some((seed, outcome.as_ref()?)))
        .filter(|(_, outcome)| outcome.restore > 0 && outcome.commit > 0)
        .collect();
    let short = logs
        .iter()
        .filter(|(_, outcome)| outcome.restore <= EVERY_REQUEST)
        .max_by_key(|(_, outcome)| outcome.restore);
    let shortest = || logs.iter().min_by_key(|(_, outcome)| outcome.restore);
    let Some((whole, outcome)) = short.or_else(shortest).filter(|_| count > 0) else {
        return (Vec::new(), 0);
    };
    let cut_off = |seed: &Seed, repair, requests, random: &mut Random| Seed {
        second: Some(Second {
            repair,
            requests,
            random: random.bits() as u32,
        }),
        ..*seed
    };
    let mut list = Vec::new();
    for requests in 1..=outcome.restore {
        list.push(cut_off(whole, Repair::Restore, requests, random));
    }
    let every_request = list.len();
    for requests in 1..=outcome.commit {
        list.push(cut_off(whole, Repair::Commit, requests, random));
    }
    for _ in 0..count {
        let (seed, outcome) = logs[random.index(logs.len())];
        let (repair, all) = match random.index(8) {
            0 => (Repair::Commit, outcome.commit),
            _ => (Repair::Restore, outcome.restore),
        };
        let requests = random.index(all as usize) as u32 + 1;
        list.push(cut_off(seed, repair, requests, random));
    }
    (list, every_request)
}

/// Runs all cases on some threads. An outcome is missing where a promise was broken, or nobody came
/// to it any more.
fn run_all(
    recording: &Recording,
    plan: Plan<'_>,
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
                    resume: at % RESUME_ALL_BUT_ONE_OF != 0,
                    fsck: plan.fsck.filter(|_| at % FSCK_EVERY == 0),
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
