// SPDX-License-Identifier: GPL-2.0

//! `bowctl remove`: takes bow devices away, in any state.

use std::path::PathBuf;

use super::tell;
use crate::error::Result;
use crate::live::Live;

/// `bowctl remove`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Live bow devices, each by its name or its device node.
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result {
    for target in &args.targets {
        let live = Live::get(target)?;

        live.remove()?;
        tell(&format!("{}: removed\n", live.name));
    }
    Ok(())
}
