// SPDX-License-Identifier: GPL-2.0

//! The command `bowctl`.

use std::io::{self, Write};
use std::process::ExitCode;

use bowctl::cli::Cli;
use bowctl::commands;
use clap::Parser;

fn main() -> ExitCode {
    match commands::run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "bowctl: {failure}");
            ExitCode::from(failure.code as u8)
        }
    }
}
