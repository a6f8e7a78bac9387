// SPDX-License-Identifier: GPL-2.0

//! Messages of device mapper that the target accepts.
//!
//! | message | effect |
//! |---|---|
//! | `checkpoint` | state 0 to 1 |
//! | `commit` | state 1 to 2 |
//! | `track` | state 2 to 0 |
//! | `on_full error`, `on_full commit`, `on_full wait` | the policy for writes for whose backup there is no free space |
//! | `low_water BYTES`, `low_water N%` | the low-water mark, of which there will be an event again |
//! | `boot hold` | state 1: nothing is to be done at the next boot |
//! | `boot try TRIES` | state 1: the new contents may be tried in `TRIES` boots, 1 to 255 |
//! | `boot restore` | state 1: the checkpoint is to be restored at the next boot |

use super::{
    log::Boot,
    low_water::LowWater,
    state::State,
    table::OnFull, //
};

/// Request of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A change to this state.
    State(State),
    /// A change of the policy.
    OnFull(OnFull),
    /// A change of the low-water mark.
    LowWater(LowWater),
    /// A change of what is to be done at the next boot.
    Boot(Boot),
}

impl Message {
    /// Parses the words of a message. Returns [`None`] if the target does not know it.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let message = match words.next()? {
            b"checkpoint" => Self::State(State::Checkpoint),
            b"commit" => Self::State(State::Committed),
            b"track" => Self::State(State::Tracking),
            b"on_full" => Self::OnFull(OnFull::from_word(words.next()?)?),
            b"low_water" => Self::LowWater(LowWater::from_word(words.next()?)?),
            b"boot" => Self::Boot(match words.next()? {
                b"hold" => Boot::default(),
                b"try" => {
                    let tries = core::str::from_utf8(words.next()?).ok()?;
                    let tries = tries.parse().ok().filter(|&tries| tries > 0)?;
                    Boot {
                        action: Boot::TRY,
                        tries_left: tries,
                        tries,
                    }
                }
                b"restore" => Boot {
                    action: Boot::RESTORE,
                    ..Boot::default()
                },
                _ => return None,
            }),
            _ => return None,
        };
        words.next().is_none().then_some(message)
    }
}
