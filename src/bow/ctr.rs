// SPDX-License-Identifier: GPL-2.0

//! Conversion of a table line into a [`Bow`], or a reason why the line is refused.

use super::{
    resume::{
        Reader,
        Resumed, //
    },
    Bow, //
};
use crate::{
    abstractions::{
        block::device::Device,
        dm::{
            args::Args,
            table::{
                CtrError,
                NewTable, //
            },
        },
    },
    decisions::{
        log::{
            self,
            SECTOR_SIZE, //
        },
        low_water::LowWater,
        table::{
            Arguments,
            OnFull, //
        },
    },
};
use kernel::{
    prelude::*,
    sync::Arc, //
};

impl Bow {
    /// Creates the device of a table line. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] that says what is wrong with the line or the underlying device, or that memory is short.
    pub(super) fn create(
        table: &mut NewTable<'_, Self>,
        words: Args<'_>,
    ) -> Result<impl PinInit<Self, Error>, CtrError> {
        let line = Line::read(table, words)?;
        let device = &line.device;
        if line.device_sectors != line.sectors {
            line.log_sizes();
            return Err(CtrError(EINVAL, c"the length must be that of the device"));
        }
        if table.any_other(|other| other.device.number() == device.number()) {
            return Err(CtrError(
                EBUSY,
                c"another bow device is on this device already",
            ));
        }
        let (resumed, block) = match line.arguments.resume {
            None => {
                refuse_log(device)?;
                let block = line
                    .arguments
                    .block_size_for(line.sectors, device.logical_block_size())
                    .map_err(|fault| CtrError(EINVAL, fault.sentence()))?;
                (None, block)
            }
            Some(wanted) => {
                let (resumed, block) =
                    Resumed::read(device, line.sectors, &line.arguments, wanted)?;
                (Some(resumed), block)
            }
        };
        let events = table.events();
        Self::new(
            line.device,
            events,
            line.sectors,
            block,
            &line.arguments,
            line.discards,
            resumed,
        )
        .map_err(|error| CtrError(error, c"not enough memory"))
    }

    /// Accepts a table line for this device if the line says the same as the current one. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] if the line is wrong or differs, or if the underlying device has shrunk.
    pub(super) fn reload(
        &self,
        table: &mut NewTable<'_, Self>,
        words: Args<'_>,
    ) -> Result<(), CtrError> {
        let line = Line::read(table, words)?;
        let is_same = line.device.number() == self.device.number()
            && line.sectors == self.sectors
            && line
                .arguments
                .block_size
                .is_none_or(|size| size == self.block)
            && line.arguments.on_full.unwrap_or(OnFull::Error) == self.on_full()
            && line.arguments.low_water.unwrap_or(LowWater::NONE) == self.low_water()
            && line.arguments.no_discard_passdown == self.no_discard_passdown;
        if !is_same {
            return Err(CtrError(
                EBUSY,
                c"device, length and arguments cannot change; remove the device and create it again",
            ));
        }
        // The underlying device may have grown; nothing uses the sectors beyond the table's length.
        if line.device_sectors < line.sectors {
            line.log_sizes();
            return Err(CtrError(EINVAL, c"the device has become smaller"));
        }
        Ok(())
    }
}

/// A table line that was read, with its device open.
struct Line {
    /// The underlying device.
    device: Arc<Device>,
    /// Current size of the underlying device in sectors.
    device_sectors: u64,
    /// Length of the table in sectors.
    sectors: u64,
    /// Set if the underlying device takes discards.
    discards: bool,
    arguments: Arguments,
}

impl Line {
    /// Reads a table line and opens its device. Sleeps.
    ///
    /// # Errors
    ///
    /// A [`CtrError`] that says what is wrong.
    fn read(table: &mut NewTable<'_, Bow>, mut words: Args<'_>) -> Result<Self, CtrError> {
        let path = words
            .next()
            .ok_or(CtrError(EINVAL, c"the device is missing"))?;
        let arguments =
            Arguments::parse(words.map(|word| word.to_bytes())).map_err(|(fault, word)| {
                let word = core::str::from_utf8(word).unwrap_or("?");
                pr_err!("table: argument '{}' is refused\n", word);
                CtrError(EINVAL, fault.sentence())
            })?;
        if table.begin() != 0 {
            return Err(CtrError(EINVAL, c"the target must start at sector 0"));
        }
        if table.is_read_only() {
            return Err(CtrError(EROFS, c"the table must not be read-only"));
        }
        let cannot_open = |error: Error| {
            let path = path.to_str().unwrap_or("?");
            pr_err!("table: device '{}': error {}\n", path, error.to_errno());
            if error == EACCES || error == EROFS || error == EPERM {
                CtrError(error, c"the device is read-only")
            } else {
                CtrError(error, c"the device cannot be opened")
            }
        };
        let device = table.open(path).map_err(cannot_open)?;
        let facts = device.facts().map_err(cannot_open)?;
        if facts.is_read_only {
            return Err(CtrError(EROFS, c"the device is read-only"));
        }
        if facts.is_zoned {
            return Err(CtrError(EINVAL, c"zoned devices are not supported"));
        }
        let sectors = table.sectors();
        Ok(Self {
            device,
            device_sectors: facts.sectors,
            sectors,
            discards: facts.discards,
            arguments,
        })
    }

    /// Logs the two sizes that differ.
    fn log_sizes(&self) {
        pr_err!(
            "{}: the table has {} sectors, the device {}\n",
            self.device.name(),
            self.sectors,
            self.device_sectors
        );
    }
}

/// Refuses a device that holds an uncommitted checkpoint, which a new one would destroy.
///
/// # Errors
///
/// A [`CtrError`]: `EBUSY` if there is a log; `ENOMEM`; errors of the underlying device.
fn refuse_log(device: &Device) -> Result<(), CtrError> {
    let mut reader =
        Reader::new(device, 1).map_err(|error| CtrError(error, c"not enough memory"))?;
    let mut sector = [0; SECTOR_SIZE];
    reader
        .read(0, &mut sector)
        .map_err(|error| CtrError(error, c"the device's first block cannot be read"))?;
    if log::probe(&sector).is_none() {
        return Ok(());
    }
    pr_err!(
        "{}: holds an uncommitted checkpoint; go on with `bowctl resume`, go back with `bowctl restore`, or \
         keep the new contents with `bowctl commit`\n",
        device.name()
    );
    Err(CtrError(
        EBUSY,
        c"the device holds an uncommitted checkpoint (bowctl resume goes on, restore goes back, commit keeps)",
    ))
}
