// SPDX-License-Identifier: GPL-2.0

//! The console: questions, for which there is only some time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use rustix::event::{poll, PollFd, PollFlags, Timespec};

use super::decide::Way;
use super::programs;

/// Device of the console.
const CONSOLE: &str = "/dev/console";

/// Has a person see the console.
pub fn hide_splash() {
    if programs::has("plymouth") {
        let _ = programs::output("plymouth", &["quit"]);
    }
}

/// Asks what is to be done about an open checkpoint. Returns `default` if nobody answers in time.
pub fn ask(question: &str, can_resume: bool, default: Way, patience: Duration) -> Way {
    let Ok(mut console) = OpenOptions::new().read(true).write(true).open(CONSOLE) else {
        return default;
    };
    let resume = if can_resume {
        "  c  go on with the checkpoint: boot the new state, nothing is decided\r\n"
    } else {
        ""
    };
    let _ = write!(
        console,
        "\r\n{question}\r\n  r  roll back to the checkpoint\r\n  k  keep the new state\r\n{resume}In {} seconds: {}. Which? ",
        patience.as_secs(),
        letter(default)
    );
    let answer = answer(&mut console, can_resume, patience).unwrap_or(default);

    let _ = write!(console, "{}\r\n", letter(answer));
    answer
}

/// Returns the letter of a way.
fn letter(way: Way) -> char {
    match way {
        Way::Resume => 'c',
        Way::Restore => 'r',
        Way::Commit => 'k',
    }
}

/// Waits for one of the letters, and the end of the line after it: a byte that a serial line makes up is no answer.
fn answer(console: &mut File, can_resume: bool, patience: Duration) -> Option<Way> {
    let begun = Instant::now();
    let mut last = None;

    loop {
        let left = patience.checked_sub(begun.elapsed())?;
        let time = Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&*console, PollFlags::IN)];

        if poll(&mut fds, Some(&time)).ok()? == 0 {
            return None;
        }
        let mut byte = [0];
        if console.read(&mut byte).ok()? == 0 {
            // A console that cannot be read.
            return None;
        }
        let way = [Way::Resume, Way::Restore, Way::Commit]
            .into_iter()
            .find(|way| letter(*way) == char::from(byte[0].to_ascii_lowercase()))
            .filter(|way| can_resume || *way != Way::Resume);

        match byte[0] {
            b'\r' | b'\n' if last.is_some() => return last,
            _ => last = way,
        }
    }
}
