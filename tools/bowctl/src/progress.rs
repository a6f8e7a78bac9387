// SPDX-License-Identifier: GPL-2.0

//! Progress of a long command: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use crate::error::complain;
use indicatif::{HumanBytes, HumanDuration, ProgressBar, ProgressStyle};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Bar for a number of bytes that is known.
const BAR: &str = "{msg} [{bar:40}] {bytes}/{total_bytes}, {eta} left";

/// Bar for one that is not.
const SPINNER: &str = "{msg} {spinner} {bytes}";

/// Progress through a number of bytes, on standard error.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    done: u64,
    total: Option<u64>,
    begun: Instant,
    printed: Instant,
    quiet: bool,
}

impl Progress {
    /// Begins a progress; `total` is in bytes, if it is known.
    pub fn new(what: &str, total: Option<u64>, quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            ProgressBar::new_spinner()
                .with_style(style(SPINNER))
                .with_message(what.to_owned())
        });
        let mut progress = Self {
            bar,
            what: what.to_owned(),
            done: 0,
            total: None,
            begun: Instant::now(),
            printed: Instant::now(),
            quiet,
        };

        if let Some(total) = total {
            progress.expect(total);
        }
        progress
    }

    /// Makes a progress that nobody sees.
    pub fn hidden() -> Self {
        Self::new("", None, true)
    }

    /// Notes how many bytes there will be in all, as far as it is known. It may be said again.
    pub fn expect(&mut self, total: u64) {
        if let Some(bar) = &self.bar {
            if self.total.is_none() {
                bar.set_style(style(BAR));
            }
            bar.set_length(total);
        }
        self.total = Some(total);
    }

    /// Notes that `bytes` more have been done.
    pub fn advance(&mut self, bytes: u64) {
        self.done = self.done.saturating_add(bytes);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if !self.quiet && self.printed.elapsed() >= LINE_INTERVAL => {
                self.printed = Instant::now();
                complain!("{}", self.line(self.begun.elapsed()));
            }
            None => {}
        }
    }

    /// Returns the line for where there is no terminal, after a time.
    fn line(&self, elapsed: Duration) -> String {
        let line = format!("{}: {}", self.what, HumanBytes(self.done));

        match self.total {
            Some(total) if self.done > 0 => {
                let part = total.saturating_sub(self.done) as f64 / self.done as f64;
                let left = Duration::try_from_secs_f64(elapsed.as_secs_f64() * part);

                format!(
                    "{line} of {}, {} left",
                    HumanBytes(total),
                    HumanDuration(left.unwrap_or(Duration::MAX))
                )
            }
            _ => line,
        }
    }
}

/// Returns the style of a template.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar())
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_long_it_will_take() {
        let mut progress = Progress::hidden();

        progress.what = "restoring".to_owned();
        progress.advance(1 << 20);
        assert_eq!(progress.line(Duration::from_secs(5)), "restoring: 1.00 MiB");
        progress.expect(13 << 20);
        assert_eq!(
            progress.line(Duration::from_secs(5)),
            "restoring: 1.00 MiB of 13.00 MiB, 60 seconds left"
        );
        progress.expect(1);
        assert_eq!(
            progress.line(Duration::from_secs(5)),
            "restoring: 1.00 MiB of 1 B, 0 seconds left"
        );
    }
}
