// SPDX-License-Identifier: GPL-2.0

//! `bowctl checkpoint`: trims, freezes, enters state 1, thaws.

use std::path::{Path, PathBuf};

use super::print;
use crate::device::{Access, FileDevice};
use crate::failure::{Code, Failure, Result};
use crate::live::{Live, State};
use crate::mount::{self, Frozen};
use crate::signature;

/// `bowctl checkpoint`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A live bow device: its name, its device node, or where it is mounted.
    pub target: PathBuf,
    /// Do not trim the file system first; only what it has discarded so far is free.
    #[arg(long)]
    pub no_trim: bool,
    /// Also over a layer or file system that does not belong on a bow device.
    #[arg(long)]
    pub force: bool,
}

pub(super) fn run(args: &Args) -> Result {
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

    if !args.force {
        let node = Path::new("/dev").join(&live.node);

        signature::refuse(&FileDevice::open(&node, Access::Look)?, &node)?;
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
