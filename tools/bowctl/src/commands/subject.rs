// SPDX-License-Identifier: GPL-2.0

//! A device whose checkpoint is looked at: a plain one, or the underlying one of a live device.

use std::path::{Path, PathBuf};

use bow_decisions::state::State;

use super::log_error::{log_error, For};
use crate::device::{Access, FileDevice};
use crate::error::{Code, CommandError, Result};
use crate::live::Live;
use crate::recovery::RecoveryError;
use crate::survey::Survey;

/// Number of times that the log of a live device is read until it holds still.
const TRIES: u32 = 8;

/// A device whose checkpoint is looked at.
pub(super) struct Subject {
    /// The live device, if one is over it.
    pub(super) live: Option<Live>,
    /// Path of the device that holds the log.
    pub(super) path: PathBuf,
}

impl Subject {
    /// Finds a device by what the user names: a plain device or image, or a live bow device.
    pub(super) fn get(target: &Path) -> Result<Self> {
        let Some(live) = Live::find(target) else {
            return Ok(Self {
                live: None,
                path: target.to_owned(),
            });
        };
        let name = &live.name;

        if live.state()? != State::Checkpoint {
            return Err(
                CommandError::new(Code::NoLog, format!("{name}: no checkpoint is open"))
                    .advise(format!("`bowctl status {name}` tells its state.")),
            );
        }
        let path = live.underlying().ok_or_else(|| {
            CommandError::new(
                Code::Failed,
                format!("{name}: its underlying device has no node in /dev"),
            )
        })?;
        Ok(Self {
            live: Some(live),
            path,
        })
    }

    /// Surveys the device.
    ///
    /// The log of a live device goes on while it is read. What was read is right as long as all of
    /// it is: a log block that has moved in between is found to be none.
    pub(super) fn survey(&self) -> Result<(FileDevice, Survey)> {
        let mut tries = 0;

        loop {
            // Opened each time, so that nothing is read from the page cache.
            let device = FileDevice::open(&self.path, Access::Look)?;

            tries += 1;
            match Survey::new(&device) {
                // Of the free map too, a block may have moved.
                Ok(Survey {
                    map_error: Some(_), ..
                })
                | Err(RecoveryError::Invalid(_))
                    if self.live.is_some() && tries < TRIES => {}
                Ok(survey) => return Ok((device, survey)),
                Err(error) => {
                    let failure = log_error(&self.path, error, For::Check);

                    return Err(match &self.live {
                        Some(live) if failure.code == Code::Damaged => CommandError::new(
                            Code::Failed,
                            format!("{}: its log goes on faster than it can be read", live.name),
                        )
                        .advise(
                            "Try again when less is written, or freeze the file system meanwhile \
                             (`fsfreeze`).",
                        ),
                        _ => failure,
                    });
                }
            }
        }
    }

    /// Returns the name to show.
    pub(super) fn shown(&self) -> String {
        match &self.live {
            Some(live) => format!("{} (on {})", live.name, self.path.display()),
            None => self.path.display().to_string(),
        }
    }
}
