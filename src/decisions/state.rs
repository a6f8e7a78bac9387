// SPDX-License-Identifier: GPL-2.0

//! The state machine that users see: which states there are, and which change is allowed.

/// State of a device, as `/sys/block/dm-N/bow/state` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// 0: no checkpoint; discards say what is free.
    Tracking,
    /// 1: there is a checkpoint; what a write replaces is backed up first.
    Checkpoint,
    /// 2: the checkpoint was given up, the new contents stay; writes go straight down.
    Committed,
}

impl State {
    /// The number that users read and write.
    pub const fn number(self) -> u32 {
        match self {
            State::Tracking => 0,
            State::Checkpoint => 1,
            State::Committed => 2,
        }
    }

    /// The state that may follow.
    pub const fn next(self) -> Option<State> {
        match self {
            State::Tracking => Some(State::Checkpoint),
            State::Checkpoint => Some(State::Committed),
            State::Committed => None,
        }
    }

    /// The state that a write to `state` asks for: one digit, with or without a newline.
    pub fn from_text(text: &[u8]) -> Option<State> {
        match text.strip_suffix(b"\n").unwrap_or(text) {
            b"0" => Some(State::Tracking),
            b"1" => Some(State::Checkpoint),
            b"2" => Some(State::Committed),
            _ => None,
        }
    }

    /// The state that a message asks for: `checkpoint` or `commit`.
    pub fn from_message(word: &[u8]) -> Option<State> {
        match word {
            b"checkpoint" => Some(State::Checkpoint),
            b"commit" => Some(State::Committed),
            _ => None,
        }
    }
}
