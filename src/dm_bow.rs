// SPDX-License-Identifier: GPL-2.0

//! dm-bow: a device-mapper target that backs up on write into free space.
//!
//! Three layers, each of which knows only those after it:
//!
//! - `bow`: the target: I/O, the worker, changes of state, status.
//! - `decisions`: which ranges to back up, where to, and what to log. No I/O; also built on the host.
//! - `abstractions`: interfaces of the kernel. Independent of this target; the only place with `unsafe`.

mod abstractions;
mod bow;
#[expect(
    unreachable_pub,
    reason = "the host crates that share these files use them"
)]
mod decisions;

use abstractions::dm::registration::Registration;
use bow::Bow;
use kernel::prelude::*;

module! {
    type: Module,
    name: "dm_bow",
    authors: ["The dm-bow authors"],
    description: "device-mapper target that backs up on write into free space",
    license: "GPL v2",
    alias: ["dm-bow"],
}

/// The module: the registration of the target.
#[pin_data]
struct Module {
    #[pin]
    _registration: Registration<Bow>,
}

impl kernel::InPlaceModule for Module {
    fn init(module: &'static ThisModule) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            _registration <- Registration::new(module),
        })
    }
}
