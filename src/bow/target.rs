// SPDX-License-Identifier: GPL-2.0

//! Implementation of [`Target`], the entry points of device mapper. Each method calls the file that its
//! subject is in.

use super::{
    change::Source,
    map::BioData,
    worker::Change,
    Bow, //
};
use crate::{
    abstractions::{
        bio::Bio,
        device_mapper::{
            Limits,
            LiveTable,
            NewTable,
            Refusal,
            Target,
            Words, //
        },
        queue::NoIo,
        sysfs::Directory,
    },
    decisions::state::State,
};
use core::fmt;
use kernel::{
    prelude::*,
    sync::{
        Arc,
        ArcBorrow, //
    },
};

#[vtable]
impl Target for Bow {
    const NAME: &'static CStr = c"bow";
    const VERSION: [u32; 3] = [1, 0, 0];
    type BioData = BioData;

    fn create(
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<impl PinInit<Self, Error>, Refusal> {
        Bow::create(table, arguments)
    }

    fn reload(
        &self,
        table: &mut NewTable<'_, Self>,
        arguments: Words<'_>,
    ) -> core::result::Result<(), Refusal> {
        Bow::reload(self, table, arguments)
    }

    fn destroy(&self) {
        drop(self.directory.lock().take());
        self.queue.flush();
    }

    #[inline]
    fn map(this: ArcBorrow<'_, Self>, bio: Bio<Self>) -> Option<Bio<Self>> {
        Bow::map_bio(this, bio)
    }

    #[inline]
    fn end_io(this: ArcBorrow<'_, Self>, data: BioData) {
        Bow::bio_ended(this, data);
    }

    fn resume(this: &Arc<Self>, table: &LiveTable<'_>) {
        *this.requests.lock() = true;
        this.events.attach(table);
        // I/O of the device waits until this returns, so an allocation must not wait for I/O.
        let _noio = NoIo::enter();
        let mut directory = this.directory.lock();
        if directory.is_none() {
            match Directory::new(this.clone(), table) {
                Ok(new) => *directory = Some(new),
                Err(error) => pr_err!(
                    "{}: no directory in sysfs: error {}; use dmsetup message\n",
                    this.device.name(),
                    error.to_errno()
                ),
            }
        }
    }

    fn conflicts(&self, other: &Self) -> bool {
        self.device.number() == other.device.number()
    }

    fn suspended(this: &Arc<Self>) {
        // The next live table may be of another target. Device mapper waits for messages before it swaps
        // tables, but not for sysfs: so a change of state asked for by sysfs ends here, and no further one is
        // accepted.
        let mut is_live = this.requests.lock();
        *is_live = false;
        // Nor does device mapper know of a batch whose writers have all been answered.
        let _ = this.request(&is_live, Change::None);
        drop(is_live);
        this.events.detach();
    }

    fn status(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_status(out)
    }

    fn table(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_table(out)
    }

    fn measurement(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        self.write_measurement(out)
    }

    fn message(this: ArcBorrow<'_, Self>, mut words: Words<'_>) -> Result {
        let state = words
            .next()
            .and_then(|word| State::from_message(word.to_bytes()))
            .filter(|_| words.next().is_none());
        match state {
            Some(state) => Arc::from(this).change_state(state, Source::Message),
            None => Err(this.unknown_state("only the messages `checkpoint` and `commit` are")),
        }
    }

    fn is_ioctl_dangerous(&self) -> bool {
        self.state() != State::Committed
    }

    fn io_hints(&self, limits: &mut Limits<'_>) {
        // The record of free space is in sectors, so discards of any size and alignment are useful.
        limits.allow_discards(limits.logical_block_size());
    }
}
