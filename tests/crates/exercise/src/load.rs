// SPDX-License-Identifier: GPL-2.0

//! The load: operations in the order of the plan, several in flight.
//!
//! An operation starts when nothing in flight touches its sectors (reads go
//! side by side), so its effect on the model is known when it starts, whatever
//! order the device completes things in. Neighbours in one block of bow are
//! different sectors and do run at the same time.

use crate::device::Buffer;
use crate::device::Device;
use crate::mix::Kind;
use crate::mix::Op;
use crate::mix::Plan;
use crate::model::Generation;
use crate::model::Model;
use crate::model::Stamp;
use crate::model::UNKNOWN;
use crate::model::ZEROES;
use crate::range::Range;
use crate::Failure;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::sync::Arc;
use std::sync::Mutex;

/// Limits of a load: length and depth.
pub(crate) struct Limits {
    pub(crate) ops: u64,
    /// No more operations once this file is gone.
    pub(crate) goes_on: Option<PathBuf>,
    pub(crate) depth: usize,
    /// Read back what each operation left, before its sectors are released.
    pub(crate) read_back: bool,
    /// Print every operation before it starts.
    pub(crate) print: bool,
    /// Count I/O errors instead of stopping at the first.
    pub(crate) keep_going: bool,
}

struct Job {
    id: u64,
    op: Op,
    /// For writes.
    generation: Generation,
    /// Contents of the range before the operation if it is a read, else after it.
    expected: Vec<Generation>,
    shift: u64,
}

struct Done {
    id: u64,
    op: Op,
    result: Result<Outcome, Error>,
}

enum Outcome {
    Applied,
    /// The device does not have this operation; nothing happened.
    Unsupported,
}

enum Error {
    Io(Errno),
    Content(String),
}

/// Runs the load. The model is right afterwards even when this fails: sectors
/// of an operation that failed are unknown.
pub(crate) fn run(
    device: &Device,
    model: &mut Model,
    plan: &mut Plan,
    limits: &Limits,
) -> Result<String, Failure> {
    let (send, receive) = mpsc::channel::<Job>();
    let receive = Arc::new(Mutex::new(receive));
    let (report, reports) = mpsc::channel::<Done>();
    let stamp = model.stamp();

    std::thread::scope(|scope| {
        for _ in 0..limits.depth {
            let (receive, report) = (receive.clone(), report.clone());
            scope.spawn(move || loop {
                let job = receive.lock().expect("no worker panics here").recv();
                let Ok(job) = job else { break };
                let result = carry_out(device, stamp, &job, limits.read_back);
                let done = Done {
                    id: job.id,
                    op: job.op,
                    result,
                };
                if report.send(done).is_err() {
                    break;
                }
            });
        }
        let mut flight = Flight::new(reports, model, limits.keep_going);
        for id in 0..limits.ops {
            if limits.goes_on.as_ref().is_some_and(|file| !file.exists()) {
                break;
            }
            let op = plan.next();
            flight.wait_for_room(&op, limits.depth);
            if flight.failure.is_some() {
                break;
            }
            if limits.print {
                println!("{id}: {op}");
            }
            let job = flight.start(id, op);
            send.send(job).expect("workers live until `send` is gone");
        }
        drop(send);
        flight.finish()
    })
}

/// Operations under way, and the results of the others.
struct Flight<'a> {
    reports: mpsc::Receiver<Done>,
    model: &'a mut Model,
    ops: BTreeMap<u64, Op>,
    /// Of the operations under way: what was known before an operation that
    /// the device may turn out not to have.
    before: BTreeMap<u64, Vec<Generation>>,
    counts: BTreeMap<String, u64>,
    failure: Option<Failure>,
    keep_going: bool,
}

impl<'a> Flight<'a> {
    fn new(reports: mpsc::Receiver<Done>, model: &'a mut Model, keep_going: bool) -> Self {
        Self {
            reports,
            model,
            ops: BTreeMap::new(),
            before: BTreeMap::new(),
            counts: BTreeMap::new(),
            failure: None,
            keep_going,
        }
    }

    fn wait_for_room(&mut self, op: &Op, depth: usize) {
        while self.ops.len() >= depth || self.ops.values().any(|other| conflict(other, op)) {
            self.take_one();
        }
    }

    fn start(&mut self, id: u64, op: Op) -> Job {
        let mut job = Job {
            id,
            op,
            generation: UNKNOWN,
            expected: Vec::new(),
            shift: id % 8,
        };
        if let Some(range) = op.range {
            let after = match op.kind {
                Kind::Read | Kind::Flush => None,
                Kind::Write | Kind::Fua => Some(self.model.next_generation()),
                Kind::Discard => Some(UNKNOWN),
                Kind::Zero | Kind::ZeroRange | Kind::Punch => Some(ZEROES),
            };
            if let Some(generation) = after {
                self.before.insert(id, self.model.get(range).to_vec());
                self.model.set(range, generation);
                job.generation = generation;
            }
            job.expected = self.model.get(range).to_vec();
        }
        self.ops.insert(id, op);
        job
    }

    /// Takes in the outcome of one operation; there must be one under way.
    fn take_one(&mut self) {
        let done = self.reports.recv().expect("workers report every job");
        self.ops.remove(&done.id);
        let before = self.before.remove(&done.id);
        let name = done.op.kind.to_string();
        match done.result {
            Ok(Outcome::Applied) => *self.counts.entry(name).or_default() += 1,
            Ok(Outcome::Unsupported) => {
                *self.counts.entry(name + "-unsupported").or_default() += 1;
                if let (Some(range), Some(before)) = (done.op.range, before) {
                    self.model.restore(range, &before);
                }
            }
            Err(error) => {
                if let (Some(range), Some(_)) = (done.op.range, before) {
                    self.model.set(range, UNKNOWN);
                }
                let failure = match error {
                    Error::Io(errno) if self.keep_going => {
                        *self
                            .counts
                            .entry(format!("{name}-errno-{}", errno.raw_os_error()))
                            .or_default() += 1;
                        return;
                    }
                    Error::Io(errno) => Failure::io(errno, format!("{}: {errno}", done.op)),
                    Error::Content(text) => Failure::content(format!("{}: {text}", done.op)),
                };
                // Wrong data is worse than any error; else the first one counts.
                if self.failure.is_none() || failure.is_content() {
                    self.failure = Some(failure);
                }
            }
        }
    }

    fn finish(mut self) -> Result<String, Failure> {
        while !self.ops.is_empty() {
            self.take_one();
        }
        let counts: Vec<_> = self
            .counts
            .iter()
            .map(|(k, n)| format!("{k} {n}"))
            .collect();
        let summary = counts.join(", ");
        match self.failure {
            None => Ok(summary),
            Some(failure) => Err(failure.after(&summary)),
        }
    }
}

fn conflict(a: &Op, b: &Op) -> bool {
    let (Some(x), Some(y)) = (a.range, b.range) else {
        return false;
    };
    x.overlaps(&y) && (a.kind != Kind::Read || b.kind != Kind::Read)
}

fn carry_out(device: &Device, stamp: Stamp, job: &Job, read_back: bool) -> Result<Outcome, Error> {
    let Some(range) = job.op.range else {
        device.flush().map_err(Error::Io)?;
        return Ok(Outcome::Applied);
    };
    let mut buffer = Buffer::new(range.len, job.shift / device.unit() * device.unit());
    match job.op.kind {
        Kind::Write | Kind::Fua => {
            stamp.fill(range, job.generation, buffer.slice_mut(range));
            if job.op.kind == Kind::Write {
                device.write(range, &buffer)
            } else {
                device.write_fua(range, &buffer)
            }
        }
        Kind::Discard => device.discard(range),
        Kind::Zero => device.zero_out(range),
        Kind::ZeroRange => device.zero_range(range),
        Kind::Punch => match device.punch(range) {
            Err(Errno::OPNOTSUPP) => return Ok(Outcome::Unsupported),
            other => other,
        },
        Kind::Read | Kind::Flush => Ok(()),
    }
    .map_err(Error::Io)?;

    if job.op.kind == Kind::Read || read_back {
        check(device, stamp, range, &job.expected, &mut buffer)?;
    }
    Ok(Outcome::Applied)
}

fn check(
    device: &Device,
    stamp: Stamp,
    range: Range,
    expected: &[Generation],
    buffer: &mut Buffer,
) -> Result<(), Error> {
    device.read(range, buffer).map_err(Error::Io)?;
    let wrong = stamp.check(range.start, expected, buffer.slice(range));
    match wrong.first() {
        None => Ok(()),
        Some(first) => Err(Error::Content(format!(
            "{} wrong sectors, first: {}",
            wrong.len(),
            first
        ))),
    }
}
