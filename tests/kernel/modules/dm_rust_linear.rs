// SPDX-License-Identifier: GPL-2.0

//! dm-linear as an example of a target: `<start> <length> rust-linear <device> <offset>`.

#![allow(dead_code, reason = "a small target uses a part of the abstractions")]

#[path = "../../../src/abstractions/mod.rs"]
mod abstractions;

use abstractions::{
    block::device::Device,
    dm::{
        args::Args,
        bio::{Bio, NewBio},
        registration::Registration,
        table::*,
        target::*,
    },
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{Arc, ArcBorrow},
};

/// Table line: the sectors of the mapped device from `begin` on are those of `device` from `start` on.
struct Linear {
    device: Arc<Device>,
    begin: u64,
    start: u64,
}

#[vtable]
impl Target for Linear {
    const NAME: &'static CStr = c"rust-linear";
    const VERSION: [u32; 3] = [1, 0, 0];
    const DISCARDS: bool = true;
    const WRITE_ZEROES: bool = true;
    type BioData = ();

    fn ctr(
        table: &mut NewTable<'_, Self>,
        mut args: Args<'_>,
    ) -> Result<impl PinInit<Self, Error>, CtrError> {
        let (Some(path), Some(start), None) = (args.next(), args.next(), args.next()) else {
            return Err(CtrError(EINVAL, c"the arguments are <device> <offset>"));
        };
        let start = start.to_str().ok().and_then(|word| word.parse().ok());
        let start = start.ok_or(CtrError(EINVAL, c"the offset must be a number of sectors"))?;
        let device = table.open(path);
        let device = device.map_err(|error| CtrError(error, c"the device cannot be opened"))?;
        let begin = table.begin();
        Ok(try_init!(Self { device, begin, start }? Error))
    }

    fn map(this: ArcBorrow<'_, Self>, bio: NewBio<'_, ()>) -> Option<Bio<()>> {
        let mut bio = bio.keep();
        let sector = bio.sector().wrapping_sub(this.begin);
        bio.set_sector(sector.wrapping_add(this.start));
        Some(bio)
    }

    fn status(&self, _out: &mut dyn fmt::Write) -> fmt::Result {
        Ok(())
    }

    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        write!(out, "{} {}", self.device.name(), self.start)
    }

    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let name = self.device.name();
        write!(
            out,
            "target_name=rust-linear,device_name={name},start={};",
            self.start
        )
    }

    fn prepare_ioctl(&self) -> IoctlAccess {
        IoctlAccess::Privileged
    }

    fn start(&self) -> u64 {
        self.start
    }
}

module! {
    type: Module,
    name: "dm_rust_linear",
    authors: ["The dm-bow authors"],
    description: "dm-linear in Rust",
    license: "GPL v2",
}

#[pin_data]
struct Module {
    #[pin]
    _registration: Registration<Linear>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- Registration::new(module),
        })
    }
}
