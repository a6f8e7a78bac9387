// SPDX-License-Identifier: GPL-2.0

//! One function for each command.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bow_decisions::log::{probe, SECTOR_SIZE};
use bow_decisions::replay::{Finding, Limits, Summary};

use crate::cli::{self, OnFull};
use crate::device::{Access, BlockDevice, FileDevice};
use crate::failure::{Code, Failure, Result};
use crate::live::{self, Live, State};
use crate::mount::{self, Frozen};
use crate::progress::Progress;
use crate::repair::{self, CheckOptions, RepairError, PIECES};
use crate::report::{Block, LiveStatus, Log, LogEntry, PlainStatus, Status, Totals};
use crate::users;

/// Runs a command.
///
/// # Errors
///
/// What the user is to be told.
pub fn run(command: &cli::Command) -> Result {
    match command {
        cli::Command::Create(args) => create(args),
        cli::Command::Checkpoint(args) => checkpoint(args),
        cli::Command::Commit(args) => match Live::find(&args.target) {
            Some(live) => commit_live(&live, args.dry_run),
            None => commit_plain(&args.target, args.dry_run),
        },
        cli::Command::Status(args) => status(args),
        cli::Command::Restore(args) => restore(args),
        cli::Command::Log(args) => log(args),
        cli::Command::Check(args) => check(args),
    }
}

/// Prints to standard output. That nobody reads any further is no error.
fn print(text: &str) -> Result {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io("standard output", &error))
        }
        _ => Ok(()),
    }
}

fn print_json(value: &impl serde::Serialize) -> Result {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;

    text.push('\n');
    print(&text)
}

fn create(args: &cli::Create) -> Result {
    // Opened to see that it is there and free, and closed again for the target.
    let device = FileDevice::open(&args.device, Access::Check)?;
    let path = args
        .device
        .canonicalize()
        .map_err(|error| Failure::io(args.device.display(), &error))?;
    let sectors = device.sectors();
    let mut first = [0; SECTOR_SIZE];

    device
        .read_at(0, &mut first)
        .map_err(|error| Failure::io(path.display(), &error))?;
    if probe(&first).is_some() {
        return Err(Failure::new(
            Code::State,
            format!(
                "{}: it holds a checkpoint that is still open",
                path.display()
            ),
        )
        .advise(format!(
            "`bowctl restore {0}` goes back to it, `bowctl commit {0}` keeps the new state.",
            args.device.display()
        )));
    }
    drop(device);

    let mut options = Vec::new();
    if let Some(size) = args.block_size {
        options.push(format!("block_size:{size}"));
    }
    if let Some(on_full) = args.on_full {
        let policy = match on_full {
            OnFull::Error => "error",
            OnFull::Commit => "commit",
        };
        options.push(format!("on_full:{policy}"));
    }

    let mut table = format!("0 {sectors} bow {}", path.display());
    if !options.is_empty() {
        table.push_str(&format!(" {} {}", options.len(), options.join(" ")));
    }
    live::create(&args.name, &table)?;
    print(&format!("/dev/mapper/{}: {table}\n", args.name))?;
    match Live::find(Path::new(&args.name)).and_then(|live| live.block_size()) {
        Some(block) => print(&format!("{}: {}\n", args.name, blocks(block, sectors))),
        None => Ok(()),
    }
}

/// Says in what blocks a device of `sectors` sectors is backed up.
fn blocks(block_size: u64, sectors: u64) -> String {
    let rest = sectors * SECTOR_SIZE as u64 % block_size.max(1);

    match rest {
        0 => format!("block size {block_size}"),
        _ => format!(
            "block size {block_size}; the last {rest} bytes of the device are less than a block: \
             they are backed up too, but never hold a backup"
        ),
    }
}

fn checkpoint(args: &cli::Checkpoint) -> Result {
    let live = Live::get(&args.target)?;
    let name = &live.name;

    match live.state()? {
        State::Trim => {}
        State::Checkpoint => {
            return Err(
                Failure::new(Code::State, format!("{name}: a checkpoint is open already")).advise(
                    format!(
                        "`bowctl commit {name}` keeps what came after it; \
                 to go back, remove the device and run `bowctl restore` on the one below."
                    ),
                ),
            )
        }
        State::Committed => {
            return Err(Failure::new(
                Code::State,
                format!("{name}: its checkpoint has been committed"),
            )
            .advise(format!(
                "Remove the device and make it again for another: \
                 `dmsetup remove {name}`, `bowctl create`."
            )))
        }
    }

    let point = live.mount_points().into_iter().next();
    if let Some(point) = point.as_deref().filter(|_| !args.no_trim) {
        let trimmed = mount::trim(point).map_err(|failure| {
            failure.advise("`--no-trim` takes the checkpoint with what is known to be free.")
        })?;
        let bytes = trimmed.map_or(String::new(), |bytes| format!(": {bytes} bytes"));

        print(&format!("trimmed {}{bytes}\n", point.display()))?;
    }
    if point.is_none() {
        eprintln!("{name} is not mounted: only what has been discarded so far is free");
    }

    enter(&live, point.as_deref())?;
    print(&format!(
        "{name}: checkpoint taken, {} bytes free\n",
        live.free()?
    ))
}

/// Enters state 1 while the file system mounted on `point`, if there is one, is frozen.
fn enter(live: &Live, point: Option<&Path>) -> Result {
    let frozen = point.map(Frozen::new).transpose()?.flatten();
    // Nothing may return between here and the thaw.
    let entered = live.set_state(State::Checkpoint);
    let thawed = frozen.map_or(Ok(()), Frozen::thaw);

    entered.map_err(|error| {
        Failure::io(format_args!("{}: taking the checkpoint", live.name), &error)
            .advise("The kernel's log says why (`dmesg | tail`).")
    })?;
    thawed
}

fn commit_live(live: &Live, dry_run: bool) -> Result {
    let name = &live.name;

    match live.state()? {
        State::Checkpoint => {}
        State::Trim => {
            return Err(Failure::new(
                Code::State,
                format!("{name}: there is no checkpoint to commit"),
            )
            .advise(format!("`bowctl checkpoint {name}` takes one.")))
        }
        State::Committed => return print(&format!("{name}: committed already\n")),
    }
    if dry_run {
        return print(&format!("{name}: the new state would be kept\n"));
    }
    live.set_state(State::Committed).map_err(|error| {
        Failure::io(format_args!("{name}: committing"), &error)
            .advise("The kernel's log says why (`dmesg | tail`).")
    })?;
    print(&format!("{name}: committed\n"))
}

fn commit_plain(path: &Path, dry_run: bool) -> Result {
    let access = if dry_run {
        Access::Check
    } else {
        Access::Write
    };
    let mut device = FileDevice::open(path, access)?;
    let block = repair::can_keep_new(&device)
        .map(|header| Block::new(0, &header))
        .map_err(|error| failure(path, error, For::Commit))?;

    if dry_run {
        return print(&format!(
            "{}: {}: the new state would be kept\n",
            path.display(),
            block.checkpoint()
        ));
    }
    repair::keep_new(&mut device).map_err(|error| failure(path, error, For::Commit))?;
    print(&format!(
        "{}: {}: committed, the new state is kept\n",
        path.display(),
        block.checkpoint()
    ))
}

fn status(args: &cli::Status) -> Result {
    let targets: Vec<PathBuf> = match args.targets.as_slice() {
        [] => Live::all()
            .iter()
            .map(|live| live.name.clone().into())
            .collect(),
        targets => targets.to_vec(),
    };
    let mut reports = Vec::new();

    for target in &targets {
        reports.push(match Live::find(target) {
            Some(live) => Status::Live(live_status(&live)?),
            None => Status::Plain(plain_status(target)?),
        });
    }
    if args.json {
        return print_json(&reports);
    }
    if reports.is_empty() {
        return print("no live bow devices\n");
    }
    print(&reports.iter().map(Status::text).collect::<String>())
}

fn live_status(live: &Live) -> Result<LiveStatus> {
    let state = live.state()?;

    Ok(LiveStatus {
        name: live.name.clone(),
        device: format!("/dev/{}", live.node),
        state: state.number(),
        state_name: state.word(),
        free_bytes: live.free()?,
        size_bytes: live.size()?,
        below: live.slaves(),
        mounted_on: live
            .mount_points()
            .iter()
            .map(|point| point.display().to_string())
            .collect(),
        target_status: live.target_status(),
    })
}

fn plain_status(path: &Path) -> Result<PlainStatus> {
    let device = FileDevice::open(path, Access::Look)?;
    let mut status = PlainStatus {
        device: path.display().to_string(),
        log: "none",
        error: None,
        header: None,
        in_use: users::of(path),
    };

    match repair::header(&device) {
        Ok(header) => {
            status.log = if header.restoring {
                "restoring"
            } else {
                "checkpoint"
            };
            status.header = Some(Block::new(0, &header));
        }
        Err(RepairError::NoLog) => {}
        Err(error @ RepairError::Invalid(_)) => {
            status.log = "damaged";
            status.error = Some(error.to_string());
        }
        Err(error) => return Err(failure(path, error, For::Check)),
    }
    Ok(status)
}

fn options(no_limit: bool) -> CheckOptions {
    CheckOptions {
        limits: no_limit.then_some(Limits::NONE),
        ..CheckOptions::default()
    }
}

fn restore(args: &cli::Restore) -> Result {
    let path = &args.device;
    let access = if args.dry_run {
        Access::Check
    } else {
        Access::Write
    };
    let mut device = FileDevice::open(path, access)?;
    let totals = checked(&device, path, args.no_limit, args.quiet, For::Restore)?;

    if args.dry_run {
        return print(&format!(
            "{}: the log is good: {}. Nothing was written.\n",
            path.display(),
            Totals::from(totals).text()
        ));
    }

    let mut progress = Progress::new("restoring", Some(totals.bytes), args.quiet);
    repair::restore(&mut device, &mut progress).map_err(|error| {
        Failure::new(Code::Failed, format!("{}: {error}", path.display())).advise(format!(
            "The restore is not complete. When the cause is mended, run `bowctl restore {}` \
             again; it takes up where it was.",
            path.display()
        ))
    })?;
    drop(progress);
    print(&format!(
        "{}: restored: {}\n",
        path.display(),
        Totals::from(totals).text()
    ))
}

fn check(args: &cli::Check) -> Result {
    let device = FileDevice::open(&args.device, Access::Check)?;
    let totals = checked(&device, &args.device, args.no_limit, args.quiet, For::Check)?;

    if args.json {
        return print_json(&Totals::from(totals));
    }
    print(&format!(
        "{}: the log is good: {}\n",
        args.device.display(),
        Totals::from(totals).text()
    ))
}

fn checked(
    device: &FileDevice,
    path: &Path,
    no_limit: bool,
    quiet: bool,
    purpose: For,
) -> Result<Summary> {
    let mut progress = Progress::new("checking", None, quiet);

    repair::check(device, options(no_limit), &mut progress, |_| ())
        .map_err(|error| failure(path, error, purpose))
}

fn log(args: &cli::Log) -> Result {
    let path = &args.device;
    let device = FileDevice::open(path, Access::Look)?;
    let mut log = Log {
        device: path.display().to_string(),
        blocks: Vec::new(),
        summary: None,
        error: None,
    };
    let options = CheckOptions {
        verify: false,
        // Saved data is not read, however much there is.
        limits: Some(Limits {
            bytes: u64::MAX,
            pieces: PIECES,
        }),
    };
    let result = repair::check(
        &device,
        options,
        &mut Progress::hidden(),
        |finding| match *finding {
            Finding::Block { sector, header } => log.blocks.push(Block::new(sector, &header)),
            Finding::Entry { index, entry } => {
                if let Some(block) = log.blocks.last_mut() {
                    block.entries.push(LogEntry::new(index, entry));
                }
            }
            Finding::Read { .. } | Finding::Valid(_) => {}
        },
    );

    match &result {
        Ok(summary) => log.summary = Some((*summary).into()),
        Err(error) => log.error = Some(error.to_string()),
    }
    if args.json {
        print_json(&log)?;
    } else {
        print(&log.text())?;
    }
    result
        .map(|_| ())
        .map_err(|error| failure(path, error, For::Check))
}

/// What a log was read for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum For {
    Restore,
    Commit,
    Check,
}

/// Tells the user why a log cannot be used.
fn failure(path: &Path, error: RepairError, purpose: For) -> Failure {
    let shown = path.display();
    let message = format!("{shown}: {error}.");

    match error {
        RepairError::NoLog => Failure::new(Code::NoLog, message).advise(
            "There is no checkpoint on this device: it was committed or restored, or never taken. \
             Nothing was written.",
        ),
        RepairError::Invalid(_) => {
            let failure = Failure::new(Code::Damaged, format!("{message} Nothing was written."));

            match purpose {
                For::Commit => failure.advise(
                    "The log does not say where the first block is, so that the new state cannot \
                     be completed by this tool. Keep an image of the device.",
                ),
                For::Restore | For::Check => failure.advise(format!(
                    "The old state cannot be restored from this log. \
                     `bowctl commit {shown}` keeps the new state, \
                     if no restore had begun (`bowctl status {shown}`)."
                )),
            }
        }
        RepairError::Restoring => {
            Failure::new(Code::Restoring, format!("{message} Nothing was written.")).advise(
                format!(
                    "The device is neither in the old state nor in the new one. \
             Finish with `bowctl restore {shown}`."
                ),
            )
        }
        RepairError::Changed(_)
        | RepairError::NoMemory
        | RepairError::Read { .. }
        | RepairError::Write { .. }
        | RepairError::Flush(_) => Failure::new(Code::Failed, message),
    }
}
