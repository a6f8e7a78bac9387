// SPDX-License-Identifier: GPL-2.0

//! `bowctl history`: updates that have ended, and how.

use super::{print, print_json};
use crate::error::Result;
use crate::report::utc;
use crate::root::begin::says;
use crate::root::update::{Ended, Records};
use crate::words::duration;

const JSON: &str = "\
JSON:
  An array, an object for each update, oldest first. One has
    begun, ended  seconds since the epoch
    command     an array of words
    device      the bow device
    outcome     \"committed\", \"rolled_back\"
    reason      a sentence
    boots       boots of the new state; null if not known
    failures    what went wrong in the new state
  A failure has
    time, kernel, reason
    boot        number of the boot of the new state, from 1 on; null if it
                was before the first
    checks      checks that failed: name, required, result, output";

/// `bowctl history`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON)]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub(super) fn run(args: &Args) -> Result {
    let history = Records::default().history();

    if args.json {
        return print_json(&history);
    }
    if history.is_empty() {
        return print("no updates yet\n");
    }
    print(&history.iter().map(text).collect::<String>())
}

/// Describes an update.
fn text(update: &Ended) -> String {
    let mut text = format!(
        "{}  {} after {}: {}\n    {}\n",
        utc(update.begun),
        says(update.outcome),
        duration(update.ended.saturating_sub(update.begun)),
        update.command.join(" "),
        update.reason
    );

    for failure in &update.failures {
        text.push_str(&format!(
            "    {}  kernel {}: {}\n",
            utc(failure.time),
            failure.kernel,
            failure.reason
        ));
        for check in &failure.checks {
            text.push_str(&format!("      {}: {}\n", check.name, check.result));
            for line in check.output.lines() {
                text.push_str(&format!("        {line}\n"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root::update::{FailedCheck, Failure, Outcome};

    #[test]
    fn all_failed_checks_are_shown() {
        let check = |name: &str| FailedCheck {
            name: name.to_owned(),
            required: true,
            result: "exit status: 1".to_owned(),
            output: format!("{name} one\n{name} two"),
        };
        let shown = text(&Ended {
            begun: 0,
            ended: 7260,
            command: vec!["apt".to_owned(), "full-upgrade".to_owned()],
            device: "bow-root".to_owned(),
            outcome: Outcome::RolledBack,
            reason: "checks failed".to_owned(),
            boots: Some(1),
            failures: vec![Failure {
                time: 3600,
                kernel: "7.3".to_owned(),
                boot: Some(1),
                reason: "checks failed".to_owned(),
                checks: vec![check("10-a"), check("20-b")],
            }],
        });

        for word in [
            "rolled back after 2 h 1 min: apt full-upgrade",
            "10-a two",
            "20-b one",
            "kernel 7.3",
        ] {
            assert!(shown.contains(word), "{shown}");
        }
    }
}
