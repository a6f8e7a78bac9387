// SPDX-License-Identifier: GPL-2.0

//! Progress of a long command: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Progress through a number of bytes, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    done: u64,
    total: Option<u64>,
    printed: Instant,
    quiet: bool,
}

impl Progress {
    /// Begins a progress; `total` is in bytes, if it is known.
    pub fn new(what: &str, total: Option<u64>, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let (bar, template) = match total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{msg} [{bar:40}] {bytes}/{total_bytes} {eta}",
                ),
                None => (ProgressBar::new_spinner(), "{msg} {spinner} {bytes}"),
            };

            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()),
            );
            bar.set_message(what.to_owned());
            bar
        });

        Self {
            bar,
            what: what.to_owned(),
            done: 0,
            total,
            printed: Instant::now(),
            quiet,
        }
    }

    /// Makes a progress that nobody sees.
    pub fn hidden() -> Self {
        Self::new("", None, true)
    }

    /// Notes that `bytes` more have been done.
    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if !self.quiet && self.printed.elapsed() >= LINE_INTERVAL => {
                self.printed = Instant::now();
                match self.total {
                    Some(total) => eprintln!(
                        "{}: {} of {}",
                        self.what,
                        HumanBytes(self.done),
                        HumanBytes(total)
                    ),
                    None => eprintln!("{}: {}", self.what, HumanBytes(self.done)),
                }
            }
            None => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
