// SPDX-License-Identifier: GPL-2.0

//! Errors that reach the user: what happened, what to do next, and the exit code.

use std::fmt;
use std::io;

/// Prints a line to standard error, which may be gone: a decision about a checkpoint must not depend on it, and
/// `eprintln!` would panic.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write as _;

        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}
pub(crate) use complain;

/// Exit code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// Something failed, an I/O error for instance.
    Failed = 1,
    /// The command line is wrong. (`clap` exits with this as well.)
    Usage = 2,
    /// The device holds no log: there is no checkpoint on it.
    NoLog = 3,
    /// The log is damaged. Nothing was written.
    Damaged = 4,
    /// The device is mounted or in use. Nothing was written.
    InUse = 5,
    /// A restore has begun on the device, so that only finishing it helps. Nothing was written.
    Restoring = 6,
    /// The device is in a state that does not allow this. Nothing was changed.
    State = 7,
    /// A person has to decide about the checkpoint on the root partition. Nothing was written.
    Undecided = 8,
    /// A command or a check failed: it is rolled back, or will be at the next boot.
    RolledBack = 9,
}

/// An error for the user.
#[derive(Debug)]
pub struct CommandError {
    /// The exit code.
    pub code: Code,
    /// Description of what happened, beginning with the device.
    pub message: String,
    /// Advice on what to do next, a sentence or more.
    pub advice: Option<String>,
}

/// The result of a command.
pub type Result<T = ()> = std::result::Result<T, CommandError>;

impl CommandError {
    /// Makes an error with a code and a message.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            advice: None,
        }
    }

    /// Makes the error of a system call on something that has a name.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let failure = Self::new(Code::Failed, format!("{what}: {error}"));

        match error.kind() {
            io::ErrorKind::PermissionDenied => failure.advise("Run this as root."),
            _ => failure,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.advice {
            Some(advice) => write!(f, "\n{advice}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for CommandError {}
