// SPDX-License-Identifier: GPL-2.0

//! States of a device as users see them, and the changes between them.

/// State of a device, as `/sys/block/dm-N/bow/state` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// 0: there is no checkpoint; discards tell which space is free.
    Tracking,
    /// 1: there is a checkpoint; old contents are backed up before a write replaces them.
    Checkpoint,
    /// 2: the checkpoint was committed: the new contents stay. Discards tell which space is free, as in state 0.
    Committed,
}

impl State {
    /// Returns the number that users read and write.
    pub const fn number(self) -> u32 {
        match self {
            State::Tracking => 0,
            State::Checkpoint => 1,
            State::Committed => 2,
        }
    }

    /// Returns the only state that may follow.
    pub const fn next(self) -> State {
        match self {
            State::Tracking => State::Checkpoint,
            State::Checkpoint => State::Committed,
            State::Committed => State::Tracking,
        }
    }

    /// Returns the state that `text`, written to the sysfs file `state`, asks for: one digit, with or without
    /// a newline. Returns [`None`] for any other text.
    pub fn from_text(text: &[u8]) -> Option<State> {
        match text.strip_suffix(b"\n").unwrap_or(text) {
            b"0" => Some(State::Tracking),
            b"1" => Some(State::Checkpoint),
            b"2" => Some(State::Committed),
            _ => None,
        }
    }
}
