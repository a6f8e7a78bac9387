// SPDX-License-Identifier: GPL-2.0

//! Running other programs.

use std::process::{Command, Stdio};

use crate::error::{Code, CommandError, Result};

/// Runs a program. Returns its standard output.
///
/// # Errors
///
/// If the program cannot be run, or fails; with what it said.
pub fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| CommandError::io(program, &error))?;

    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(CommandError::new(
        Code::Failed,
        format!(
            "{program} {}: {}: {}",
            args.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ),
    ))
}

/// Runs a program whose output the user sees.
///
/// # Errors
///
/// If the program cannot be run, or fails.
pub fn show(program: &str, args: &[&str]) -> Result {
    let status = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| CommandError::io(program, &error))?;

    if status.success() {
        return Ok(());
    }
    Err(CommandError::new(
        Code::Failed,
        format!("{program} {}: {status}", args.join(" ")),
    ))
}

/// Returns whether a program is in the path.
pub fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).exists())
    })
}
