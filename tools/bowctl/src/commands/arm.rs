// SPDX-License-Identifier: GPL-2.0

//! `bowctl arm`: has the next boot try the new state of the root file system.

use super::print;
use crate::error::Result;
use crate::root::begin;
use crate::root::config::Config;

/// `bowctl arm`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of boots that may be tried, 3 at most where GRUB counts them [default: TRIES in /etc/bow.conf].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
    pub tries: Option<u8>,
}

pub(super) fn run(args: &Args) -> Result {
    let mut config = Config::read();

    config.tries = args.tries.unwrap_or(config.tries);
    let tries = begin::arm(&config, || true)?;
    print(&format!(
        "The next boot tries the new system, {tries} times at most. If it does not become healthy, the old one comes \
         back.\n"
    ))
}
