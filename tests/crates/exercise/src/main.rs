// SPDX-License-Identifier: GPL-2.0

//! `bow-exercise`: every shape of bio against a block device, checked sector by
//! sector against a model in memory. For the kernel selftests.

#![deny(unsafe_code)]

mod device;
mod ioctl;
mod load;
mod mix;
mod model;
mod range;
mod snapshot;

use bow_random::mix;
use bow_random::Random;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use device::Buffer;
use device::Caching;
use device::Device;
use mix::Mix;
use mix::Plan;
use model::Model;
use range::Range;
use range::SECTOR;
use rustix::io::Errno;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

/// Load a block device with every shape of bio and check it against a model.
///
/// Exit status: 0 all is as it must be, 1 wrong content, 2 wrong usage,
/// 3 an I/O error, 4 no space left (the model then knows what was acknowledged).
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a stamp to every sector and start a model.
    Fill {
        #[command(flatten)]
        target: Target,
        /// Only these sectors, START+LENGTH: the model knows no others.
        #[arg(long)]
        window: Option<Range>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Discard ranges: their sectors become unknown.
    Free {
        #[command(flatten)]
        target: Target,
        /// Discard in odd, overlapping pieces of at most this many sectors, in
        /// random order; only together do they cover the range.
        #[arg(long)]
        shred: Option<u64>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// START+LENGTH, in sectors.
        #[arg(required = true)]
        ranges: Vec<Range>,
    },
    /// Run a random load; the model follows it.
    Run(Run),
    /// Compare every known sector with the model.
    Verify {
        #[command(flatten)]
        target: Target,
    },
    /// Print how much of a model is known and unknown.
    Info {
        model: PathBuf,
        /// Count unknown bytes in whole blocks of this size.
        #[arg(long, default_value_t = SECTOR as u64, value_parser = block_size)]
        block_size: u64,
    },
    /// Save the sectors of a device that a trace of its bios does not leave free.
    Snapshot {
        device: PathBuf,
        /// Output of the block:block_bio_queue event since the device was made.
        #[arg(long)]
        trace: PathBuf,
        /// The device in the trace, as it is written there: MAJOR,MINOR.
        #[arg(long)]
        numbers: String,
        #[arg(long)]
        image: PathBuf,
    },
    /// Compare a device or image with a snapshot where it was not free.
    Compare {
        device: PathBuf,
        #[arg(long)]
        image: PathBuf,
    },
}

#[derive(Args)]
struct Target {
    device: PathBuf,
    /// File that holds the model.
    #[arg(long)]
    model: PathBuf,
    /// Go through the page cache.
    #[arg(long)]
    buffered: bool,
}

impl Target {
    fn open(&self) -> Result<Device, Failure> {
        let caching = match self.buffered {
            true => Caching::Buffered,
            false => Caching::Direct,
        };
        Device::open(&self.device, caching)
    }
}

#[derive(Args)]
struct Run {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 1000)]
    ops: u64,
    /// Stop when this file is gone even if operations are left.
    #[arg(long, value_name = "FILE")]
    r#while: Option<PathBuf>,
    /// Operations in flight.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    depth: u16,
    /// The largest operation, in sectors.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    max: u64,
    /// Weights: read, write, fua, flush, discard, zero, zerorange, punch.
    #[arg(
        long,
        default_value = "read=4,write=8,fua=1,flush=1,discard=2,zero=1,zerorange=1,punch=1"
    )]
    mix: Mix,
    /// Stay in these ranges, START+LENGTH; may be repeated. Default: the model's window.
    #[arg(long)]
    range: Vec<Range>,
    /// Read back what each operation left.
    #[arg(long)]
    read_back: bool,
    /// Print every operation.
    #[arg(long)]
    print: bool,
    /// Go on after I/O errors, and tell how many of each there were. What an
    /// operation that failed left is unknown.
    #[arg(long)]
    keep_going: bool,
    /// Leave out the check of the whole window at the end.
    #[arg(long)]
    no_verify: bool,
}

/// Error of a command, with its exit status.
#[derive(Debug)]
struct Failure {
    status: u8,
    text: String,
}

const WRONG_CONTENT: u8 = 1;
const WRONG_USAGE: u8 = 2;
const IO_ERROR: u8 = 3;
const NO_SPACE: u8 = 4;

impl Failure {
    fn content(text: String) -> Self {
        Self {
            status: WRONG_CONTENT,
            text,
        }
    }

    fn usage(text: String) -> Self {
        Self {
            status: WRONG_USAGE,
            text,
        }
    }

    fn io(errno: Errno, text: String) -> Self {
        let status = match errno {
            Errno::NOSPC => NO_SPACE,
            _ => IO_ERROR,
        };
        Self { status, text }
    }

    fn is_content(&self) -> bool {
        self.status == WRONG_CONTENT
    }

    /// Says what had been done before.
    fn after(mut self, summary: &str) -> Self {
        self.text = format!("after {summary}: {}", self.text);
        self
    }
}

fn block_size(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(size) if size >= SECTOR as u64 && u64::is_power_of_two(size) => Ok(size),
        _ => Err("a power of two from 512".into()),
    }
}

/// Sectors written or compared at once.
const STEP: u64 = 2048;

fn check_window(device: &Device, window: Range) -> Result<(), Failure> {
    let unit = device.unit();
    if !device.extent().contains(&window) || window.start % unit != 0 || window.len % unit != 0 {
        return Err(Failure::usage(format!(
            "{window} does not fit a device of {} sectors with logical blocks of {unit}",
            device.extent().len
        )));
    }
    Ok(())
}

fn fill(target: &Target, window: Option<Range>, seed: u64) -> Result<String, Failure> {
    let device = target.open()?;
    // A device may end inside a logical block: nobody can write there.
    let whole = device.extent().len - device.extent().len % device.unit();
    let window = window.unwrap_or(Range::new(0, whole));
    check_window(&device, window)?;
    let mut model = Model::new(window, seed);
    let generation = model.next_generation();
    let mut buffer = Buffer::new(STEP, 0);
    for piece in window.pieces(STEP) {
        model
            .stamp()
            .fill(piece, generation, buffer.slice_mut(piece));
        device
            .write(piece, &buffer)
            .map_err(|e| Failure::io(e, format!("write {piece}: {e}")))?;
        model.set(piece, generation);
    }
    device
        .flush()
        .map_err(|e| Failure::io(e, format!("flush: {e}")))?;
    model.save(&target.model)?;
    Ok(format!("{} sectors filled", window.len))
}

/// Returns pieces that cover the range together, overlap, and come in no order.
fn shred(range: Range, unit: u64, max: u64, rng: &mut Random) -> Vec<Range> {
    let max_units = (max / unit).max(1);
    let mut pieces = Vec::new();
    let mut at = range.start;
    while at < range.end() {
        let len = ((1 + rng.below(max_units)) * unit).min(range.end() - at);
        // Reach back into the piece before, now and then.
        let back = match rng.once_in(3) {
            true => rng.below(max_units) * unit,
            false => 0,
        };
        let start = at.saturating_sub(back).max(range.start);
        pieces.push(Range::new(start, at + len - start));
        at += len;
    }
    for i in (1..pieces.len()).rev() {
        pieces.swap(i, rng.below(i as u64 + 1) as usize);
    }
    pieces
}

fn free(target: &Target, max: Option<u64>, seed: u64, ranges: &[Range]) -> Result<String, Failure> {
    let device = target.open()?;
    let mut model = Model::load(&target.model)?;
    let mut rng = Random::new(mix(seed));
    let mut count = 0;
    for &range in ranges {
        check_window(&device, range)?;
        if !model.window().contains(&range) {
            return Err(Failure::usage(format!("{range} is outside of the model")));
        }
        let pieces = match max {
            Some(max) => shred(range, device.unit(), max, &mut rng),
            None => vec![range],
        };
        for piece in pieces {
            device
                .discard(piece)
                .map_err(|e| Failure::io(e, format!("discard {piece}: {e}")))?;
            count += 1;
        }
        model.set(range, model::UNKNOWN);
    }
    model.save(&target.model)?;
    Ok(format!("{count} discards"))
}

fn run(args: &Run) -> Result<String, Failure> {
    let device = args.target.open()?;
    let mut model = Model::load(&args.target.model)?;
    check_window(&device, model.window())?;
    let mut regions = args.range.clone();
    if regions.is_empty() {
        regions.push(model.window());
    }
    for region in &regions {
        check_window(&device, *region)?;
        if !model.window().contains(region) {
            return Err(Failure::usage(format!("{region} is outside of the model")));
        }
    }
    let limits = load::Limits {
        ops: args.ops,
        goes_on: args.r#while.clone(),
        depth: args.depth.into(),
        read_back: args.read_back,
        print: args.print,
        keep_going: args.keep_going,
    };
    println!("seed {}", args.seed);
    let max = args.max.max(device.unit());
    let mut plan = Plan::new(args.seed, args.mix.clone(), regions, device.unit(), max);
    let outcome = load::run(&device, &mut model, &mut plan, &limits);
    // Buffered writes that only fail later must fail here.
    let flushed = match args.target.buffered {
        true => device
            .flush()
            .map_err(|e| Failure::io(e, format!("flush at the end: {e}"))),
        false => Ok(()),
    };
    model.save(&args.target.model)?;
    let summary = outcome?;
    flushed?;
    if args.no_verify {
        return Ok(summary);
    }
    Ok(format!("{summary}; {}", verify(&device, &model)?))
}

fn verify(device: &Device, model: &Model) -> Result<String, Failure> {
    check_window(device, model.window())?;
    let mut buffer = Buffer::new(STEP, 0);
    let (mut known, mut bad) = (0, 0);
    for piece in model.window().pieces(STEP) {
        let expected = model.get(piece);
        let here = expected.iter().filter(|&&g| g != model::UNKNOWN).count();
        if here == 0 {
            continue;
        }
        known += here;
        device
            .read(piece, &mut buffer)
            .map_err(|e| Failure::io(e, format!("read {piece}: {e}")))?;
        let wrong = model
            .stamp()
            .check(piece.start, expected, buffer.slice(piece));
        for mismatch in &wrong {
            bad += 1;
            if bad <= 10 {
                println!("{mismatch}");
            }
        }
    }
    if bad > 0 {
        return Err(Failure::content(format!(
            "{bad} of {known} sectors are wrong"
        )));
    }
    if known == 0 {
        return Err(Failure::content(
            "nothing to verify: no sector is known".into(),
        ));
    }
    Ok(format!("{known} sectors verified"))
}

fn info(path: &Path, block_size: u64) -> Result<String, Failure> {
    let model = Model::load(path)?;
    let window = model.window();
    let unknown = model.unknown_bytes(SECTOR as u64);
    Ok(format!(
        "{{\"window\":\"{window}\",\"known_bytes\":{},\"unknown_bytes\":{}}}",
        window.bytes() - unknown,
        model.unknown_bytes(block_size)
    ))
}

fn carry_out(command: &Command) -> Result<String, Failure> {
    match command {
        Command::Fill {
            target,
            window,
            seed,
        } => fill(target, *window, *seed),
        Command::Free {
            target,
            shred,
            seed,
            ranges,
        } => free(target, *shred, *seed, ranges),
        Command::Run(args) => run(args),
        Command::Verify { target } => verify(&target.open()?, &Model::load(&target.model)?),
        Command::Info { model, block_size } => info(model, *block_size),
        Command::Snapshot {
            device,
            trace,
            numbers,
            image,
        } => snapshot::take(
            &Device::open(device, Caching::Direct)?,
            trace,
            numbers,
            image,
        ),
        Command::Compare { device, image } => {
            snapshot::compare(&Device::open(device, Caching::Direct)?, image)
        }
    }
}

fn main() -> ExitCode {
    match carry_out(&Cli::parse().command) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("bow-exercise: {}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shreds_cover_their_range_and_no_more() {
        for (unit, max) in [(1, 7), (8, 24), (1, 1)] {
            let range = Range::new(16, 160);
            let mut covered = vec![0; 200];
            for piece in shred(range, unit, max, &mut Random::new(mix(3))) {
                assert_eq!((piece.start % unit, piece.len % unit), (0, 0));
                for sector in piece.start..piece.end() {
                    covered[sector as usize] += 1;
                }
            }
            assert!(covered[16..176].iter().all(|&n| n > 0));
            assert!(covered[..16].iter().chain(&covered[176..]).all(|&n| n == 0));
        }
    }
}
